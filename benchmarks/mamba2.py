"""Mamba2's layer against transformers' pure torch one, forward and forward + backward, float32.

Both sides hold the same parameters and get the same input; what they compute is compared before a time is printed.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.report import Result
from benchmarks.side_by_side import duel
from memjax.mixers import Mamba2, Mamba2Config


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of the layer (as in `Mamba2Config`) and of its input."""

    batch: int = 2
    time: int = 1024
    width: int = 512
    expand: float = 2.0
    head_dim: int = 64
    state_size: int = 128

    def __str__(self) -> str:
        heads = round(self.expand * self.width) // self.head_dim
        return (
            f"B{self.batch} T{self.time} width {self.width}, {heads} heads of {self.head_dim}, state {self.state_size}"
            ", float32"
        )


SHAPE = Shape()


def module(shape: Shape) -> Mamba2:
    """The layer at its first values."""
    config = Mamba2Config(expand=shape.expand, head_dim=shape.head_dim, state_size=shape.state_size)
    return config.make(shape.width, rngs=nnx.Rngs(0))


def parameters(shape: Shape) -> dict[str, np.ndarray]:
    """The layer's parameters by path, "value/kernel" and so on, as the peer takes them over."""
    flat = nnx.to_flat_state(nnx.state(module(shape)))
    return {"/".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in flat}


def build(shape: Shape, weights: Mapping[str, np.ndarray], x, cotangent, differentiate: bool):
    """(run, results): one call of the layer, and its numpy results, [y] or the gradients [x, A_log, output].

    `weights` is ignored: `module(shape)` draws the same.
    """
    layer = module(shape)

    def forward(layer, x):
        return layer(x).y

    def gradient(layer, x, cotangent):
        _, pull = jax.vjp(forward, layer, x)
        return pull(cotangent)

    function = jax.jit(gradient if differentiate else forward)
    arguments = [layer, jnp.asarray(x), *([jnp.asarray(cotangent)] if differentiate else [])]
    last: list[Any] = []

    def run() -> None:
        last[:] = [jax.block_until_ready(function(*arguments))]

    def results() -> list[np.ndarray]:
        if not differentiate:
            return [np.asarray(last[0])]
        d_layer, d_x = last[0]
        return [np.asarray(g) for g in (d_x, d_layer.A_log[...], d_layer.output.kernel[...])]

    return run, results


def run(peer: Callable, peer_name: str, rounds: int, shape: Shape = SHAPE) -> Result:
    """Times both sides in turns. `peer` is built like `build`."""
    rng = np.random.default_rng(0)
    x, cotangent = rng.standard_normal((2, shape.batch, shape.time, shape.width), dtype=np.float32)
    weights = parameters(shape)
    rows, notes = [], []
    for label, differentiate in (("forward", False), ("forward + backward", True)):
        ours, theirs = (make(shape, weights, x, cotangent, differentiate) for make in (build, peer))
        names = ("x", "A_log", "output") if differentiate else ("y",)
        row, more = duel("Mamba2 layer", label, ours, theirs, peer_name, names, rounds)
        rows.append(row)
        notes += more
    return Result("mamba2", f"Mamba2 layer, {shape}", rows, tuple(notes))
