"""Which form of the linear scan runs where, and its block size; no public signature carries them."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Tiling:
    """Attributes:
    form: "blocked" takes one step a token, "associative" log2(T) passes over the whole sequence.
    block: tokens of the blocked form that are summed from zero before the state is added.
    """

    form: Literal["blocked", "associative"]
    block: int = 64


def cpu(rows: int) -> Tiling:
    """By the number of channels a step has, batch times width.

    Gradient on two cores, blocked and associative: 33 and 185 ms at (4, 4096, 256), 1.9 and 5.5 at (8, 256, 256), 12
    and 16 at (1, 4096, 128); but 3.9 and 2.8 at (1, 4096, 64), 10 and 2.8 at (1, 16384, 8), where a step is all
    overhead. The associative form takes seven times the temporary memory.
    """
    return Tiling("blocked" if rows > 64 else "associative")


def default() -> Tiling:
    """Elsewhere: a step a token would be a kernel launch a token on a GPU. Not measured here."""
    return Tiling("associative")
