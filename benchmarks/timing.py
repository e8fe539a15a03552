"""Timing of competitors in turns, on equal threads."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

THREADS = 2


def limit_threads(count: int = THREADS) -> int:
    """Holds this process to `count` CPU cores and returns how many it has.

    XLA sizes its pool by the cores a process may use, so this comes before the first use of JAX; torch is told the
    same number in `benchmarks.peers`.
    """
    if not hasattr(os, "sched_setaffinity"):  # macOS and Windows: XLA takes all cores, and torch gets as many
        return os.cpu_count() or 1
    cores = sorted(os.sched_getaffinity(0))[:count]
    os.sched_setaffinity(0, cores)
    return len(cores)


class Seconds(dict[str, list[float]]):
    """Seconds of each call by the name of the run.

    Attributes:
        disturbed: share of the cores' time that other processes took meanwhile; None where the system does not tell.
    """

    disturbed: float | None = None


def alternate(
    runs: Mapping[str, Callable[[], object]], rounds: int, *, clock: Callable[[], float] = time.perf_counter
) -> Seconds:
    """Seconds of each call of each run, taken in turns: A B A B ..., after one call of each that does not count.

    A run returns when its work is done, not when it is merely queued. One that measures itself, on a device's clock or
    over many calls, returns its seconds.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, not {rounds}")
    for run in runs.values():
        run()
    seconds = Seconds({name: [] for name in runs})
    before = _busy()
    for _ in range(rounds):
        for name, run in runs.items():
            started = clock()
            own = run()
            seconds[name].append(own if isinstance(own, float) else clock() - started)
    after = _busy()
    if before and after and after.available > before.available:
        seconds.disturbed = max(0.0, (after.others - before.others) / (after.available - before.available))
    return seconds


class Busy(NamedTuple):
    """Core seconds since the machine started: used by other processes, and used or idle in all."""

    others: float
    available: float


def _busy() -> Busy | None:
    try:
        fields = [int(x) for x in Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9]]
    except OSError:
        return None
    total, idle = sum(fields), fields[3] + fields[4]  # idle, and waiting for a disk
    ticks, own = os.sysconf("SC_CLK_TCK"), os.times()
    return Busy((total - idle) / ticks - own.user - own.system, total / ticks)


def note(rounds: int, seconds: Seconds) -> str:
    """A line on how the numbers came about; it says so where other work disturbed them."""
    line = f"  medians of {rounds} rounds"
    if seconds.disturbed is not None and seconds.disturbed > 0.05:
        line += f"; DISTURBED: other processes took {seconds.disturbed:.0%} of the cores meanwhile"
    return line


def median(seconds: list[float]) -> float:
    return statistics.median(seconds)


def speed_up(seconds: Mapping[str, list[float]], ours: str, theirs: str) -> dict[str, float]:
    """How many times faster `ours` is: the ratio of the medians, and the lowest and highest ratio of one round."""
    paired = [b / a for a, b in zip(seconds[ours], seconds[theirs], strict=True)]
    return {
        "speed-up": median(seconds[theirs]) / median(seconds[ours]),
        "lowest": min(paired),
        "highest": max(paired),
    }
