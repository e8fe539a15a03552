"""One call of ours and one of a peer's, in turns, once it is known that both compute the same."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks import timing

# Both sides round to float32 in their own order; a wrong equation is off by far more.
AGREEMENT = 1e-4

Side = tuple[Callable[[], None], Callable[[], list[np.ndarray]]]  # one call, and the numpy results of the last one


class Duel(NamedTuple):
    """Attributes:
    row: of the table: both times, and how many times faster ours is.
    notes: how well the two agree, and how the times came about.
    """

    row: dict[str, Any]
    notes: list[str]


def duel(what: str, label: str, ours: Side, peer: Side, peer_name: str, names: tuple[str, ...], rounds: int) -> Duel:
    """Times both sides in turns; `names` are those of the results. Raises ValueError where these differ."""
    seconds = timing.alternate({"memjax": ours[0], peer_name: peer[0]}, rounds)
    error = compare(ours[1](), peer[1](), names)
    row = {
        what: label,
        "memjax ms": 1e3 * timing.median(seconds["memjax"]),
        f"{peer_name} ms": 1e3 * timing.median(seconds[peer_name]),
        **timing.speed_up(seconds, "memjax", peer_name),
    }
    return Duel(row, [f"  {label}: the two agree to {error:.1e} (relative RMS)", timing.note(rounds, seconds)])


def compare(ours: list[np.ndarray], theirs: list[np.ndarray], names: tuple[str, ...]) -> float:
    """The largest RMS(difference) / RMS(theirs); ValueError where the two do not compute the same."""
    worst = 0.0
    for name, a, b in zip(names, ours, theirs, strict=True):
        error = float(np.sqrt(np.mean((a - b) ** 2)) / np.sqrt(np.mean(b**2)))
        if not error <= AGREEMENT:
            raise ValueError(f"the two sides differ in {name}: relative RMS error {error:.3g}, allowed {AGREEMENT}")
        worst = max(worst, error)
    return worst
