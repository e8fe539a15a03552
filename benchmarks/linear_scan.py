"""The gradient of the linear scan against autodiff through `jax.lax.associative_scan`: time, and temporary memory.

Both get the same numbers and run in one process, in turns; what they compute is compared before a time is printed.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from benchmarks.report import Result
from benchmarks.side_by_side import compare
from memjax import ops

NAMES = ("gradient of decay", "gradient of x")
PEER = "associative"


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of the scan: B, T and D."""

    batch: int = 4
    time: int = 4096
    width: int = 256

    def __str__(self) -> str:
        return f"B{self.batch} T{self.time} D{self.width} float32"


SHAPE = Shape()


def associative(decay, x):
    """What one writes without an op: h [B, T, D] by the associative pairs (decay, x)."""
    join = lambda early, late: (late[0] * early[0], late[0] * early[1] + late[1])
    return jax.lax.associative_scan(join, (decay, x), axis=1)[1]


def gradient_of(scan: Callable) -> Callable:
    """(decay, x, cotangent of h) -> the gradients of decay and x."""
    return lambda decay, x, cotangent: jax.vjp(scan, decay, x)[1](cotangent)


def run(rounds: int, shape: Shape = SHAPE) -> Result:
    """Times both in turns and asks the compiler for the temporaries of both."""
    rng = np.random.default_rng(0)
    size = (shape.batch, shape.time, shape.width)
    decay = 1 / (1 + np.exp(-2 - rng.standard_normal(size, dtype=np.float32)))
    arguments = [jnp.asarray(x) for x in (decay, *rng.standard_normal((2, *size), dtype=np.float32))]
    scans = {"memjax": lambda decay, x: ops.linear_scan(decay, x)[0], PEER: associative}
    programs = {name: jax.jit(gradient_of(scan)).lower(*arguments).compile() for name, scan in scans.items()}
    results: dict[str, Any] = {}

    def call(name: str) -> Callable[[], None]:
        def once() -> None:
            results[name] = jax.block_until_ready(programs[name](*arguments))

        return once

    seconds = timing.alternate({name: call(name) for name in programs}, rounds)
    ours, theirs = ([np.asarray(x) for x in results[name]] for name in ("memjax", PEER))
    error = compare(ours, theirs, NAMES)
    row: dict[str, Any] = {"linear scan": "forward + backward"}
    for name, program in programs.items():
        row[f"{name} ms"] = 1e3 * timing.median(seconds[name])
        row[f"{name} temporaries"] = temporaries(program) / arguments[1].nbytes
    notes = (
        "  temporaries in arrays of the size of x",
        f"  the two agree to {error:.1e} (relative RMS)",
        timing.note(rounds, seconds),
    )
    rows = [{**row, **timing.speed_up(seconds, "memjax", PEER)}]
    return Result("linear_scan", f"linear scan against jax.lax.associative_scan, {shape}", rows, notes)


def temporaries(program: Any) -> int:
    """Bytes of temporary memory of a compiled program."""
    plan = program.memory_analysis()
    if plan is None:
        raise ValueError("this backend does not tell how much memory a program needs")
    return plan.temp_size_in_bytes
