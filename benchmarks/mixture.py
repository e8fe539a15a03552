"""Mixture-of-memories against one Gated DeltaNet of the same head sizes, forward + backward, float32.

Three ratios: the default mixture (2 of 4 memories a token, and a shared one) over the one memory; 8 memories over 4,
where a token still goes to two; the masked dense form over the packed one.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks import timing
from benchmarks.report import Result
from benchmarks.side_by_side import compare
from memjax.mixers import GatedDeltaNetConfig, MixtureOfMemoriesConfig
from memjax.types import MixerConfig

ONE, FOUR, EIGHT, DENSE = "Gated DeltaNet", "2 of 4 memories", "2 of 8 memories", "2 of 4, dense"


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of the layer: B, T, D, H and K = V."""

    batch: int = 1
    time: int = 2048
    width: int = 512
    heads: int = 4
    size: int = 128

    def __str__(self) -> str:
        return f"B{self.batch} T{self.time} D{self.width} H{self.heads} K=V={self.size} float32"


SHAPE = Shape()


def layers(shape: Shape) -> dict[str, MixerConfig]:
    """{name: config} of what is timed."""
    sizes: dict[str, Any] = {"heads": shape.heads, "head_dim": shape.size, "expand_v": 1.0}
    return {
        ONE: GatedDeltaNetConfig(**sizes),
        FOUR: MixtureOfMemoriesConfig(**sizes),
        EIGHT: MixtureOfMemoriesConfig(memories=8, **sizes),
        DENSE: MixtureOfMemoriesConfig(dispatch="dense", **sizes),
    }


def gradient(mixer, x):
    """The gradients of sum(y ** 2) to the input and to every parameter."""
    return jax.grad(lambda x, mixer: (mixer(x).y ** 2).sum(), (0, 1))(x, mixer)


def run(rounds: int, shape: Shape = SHAPE) -> Result:
    """Times all in turns; packed and dense must agree."""
    x = jnp.asarray(np.random.default_rng(0).standard_normal((shape.batch, shape.time, shape.width), np.float32))
    results: dict[str, Any] = {}

    def build(name: str, config: MixerConfig) -> Callable[[], None]:
        mixer = config.make(shape.width, rngs=nnx.Rngs(0))
        program = jax.jit(gradient).lower(mixer, x).compile()

        def once() -> None:
            results[name] = jax.block_until_ready(program(mixer, x))

        return once

    seconds = timing.alternate({name: build(name, config) for name, config in layers(shape).items()}, rounds)
    packed, dense = ([np.asarray(leaf) for leaf in jax.tree.leaves(results[name])] for name in (FOUR, DENSE))
    error = compare(packed, dense, tuple(f"gradient {i}" for i in range(len(packed))))
    pairs = ((FOUR, ONE), (EIGHT, FOUR), (DENSE, FOUR))
    rows = [_row(seconds, slow, fast) for slow, fast in pairs]
    notes = (f"  packed and dense agree to {error:.1e} (relative RMS)", timing.note(rounds, seconds))
    return Result("mixture", f"mixture-of-memories, forward + backward, {shape}", rows, notes)


def _row(seconds: timing.Seconds, slow: str, fast: str) -> dict[str, Any]:
    ratio = timing.speed_up(seconds, fast, slow)
    return {
        "layer": slow,
        "ms": 1e3 * timing.median(seconds[slow]),
        "over": fast,
        "its ms": 1e3 * timing.median(seconds[fast]),
        "ratio": ratio.pop("speed-up"),
        **ratio,
    }
