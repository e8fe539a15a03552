"""What the chip reaches, measured in the run that compares with it."""

import dataclasses

import jax
import jax.numpy as jnp

from benchmarks import timing
from benchmarks.kernels.contender import of_jax


@dataclasses.dataclass(frozen=True)
class Ceilings:
    """Attributes:
    bytes: a second, read and written, of the copy of a large array.
    flops: a second, of the product of two large bfloat16 matrices of random numbers.
    """

    bytes: float
    flops: float


def measure(rounds: int, megabytes: int = 1024, side: int = 8192) -> Ceilings:
    """Copies so many MiB and multiplies square matrices of that side, in turns."""
    size = megabytes * 2**20
    array = jax.random.bits(jax.random.key(0), (size // 4,), jnp.uint32)
    pair = jax.random.normal(jax.random.key(1), (2, side, side), jnp.bfloat16)
    runs = {
        "copy": of_jax(lambda x: {"o": x["array"] ^ jnp.uint32(1)}, {"array": array}),
        "product": of_jax(lambda x: {"o": x["pair"][0] @ x["pair"][1]}, {"pair": pair}),
    }
    seconds = timing.alternate({name: lambda run=run: run.block(10) for name, run in runs.items()}, rounds)
    return Ceilings(2 * size / timing.median(seconds["copy"]), 2.0 * side**3 / timing.median(seconds["product"]))
