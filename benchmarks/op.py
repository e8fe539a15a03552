"""The gated delta rule against transformers' pure torch chunked one, forward and forward + backward, float32.

Both get the same numbers, and what they compute is compared before a time is printed.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.report import Result
from benchmarks.side_by_side import duel
from memjax import ops

NAMES = ("q", "k", "v", "log_decay", "beta")


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of the op's inputs: B, T, H and K = V."""

    batch: int = 1
    time: int = 2048
    heads: int = 8
    size: int = 128

    def __str__(self) -> str:
        return f"B{self.batch} T{self.time} H{self.heads} K=V={self.size} float32"


SHAPE = Shape()


def inputs(shape: Shape) -> tuple[list[np.ndarray], np.ndarray]:
    """q, k (of length 1), v, log_decay, beta as a trained layer has them, and a cotangent of the output."""
    rng = np.random.default_rng(0)
    lead = (shape.batch, shape.time, shape.heads)
    q, k, v, cotangent = rng.standard_normal((4, *lead, shape.size), dtype=np.float32)
    q, k = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k))
    decay, beta = rng.standard_normal((2, *lead), dtype=np.float32)
    return [q, k, v, -np.log1p(np.exp(decay - 2)), 1 / (1 + np.exp(-beta))], cotangent


def build(arrays, cotangent, differentiate: bool, implementation: Any = None) -> tuple[Callable, Callable]:
    """memjax's side of `benchmarks.peers.gated_delta_rule`, with the same contract."""
    function = jax.jit(gradient_of(implementation) if differentiate else forward_of(implementation))
    arguments = [jnp.asarray(x) for x in (*arrays, *([cotangent] if differentiate else []))]
    last: list[Any] = []

    def run() -> None:
        last[:] = jax.block_until_ready(function(*arguments))

    return run, lambda: [np.asarray(x) for x in last]


def forward_of(implementation: Any = None) -> Callable:
    """(q, k, v, log_decay, beta) -> (o, final state)."""
    return lambda *x: ops.gated_delta_rule(*x, implementation=implementation)


def gradient_of(implementation: Any = None) -> Callable:
    """(q, k, v, log_decay, beta, cotangent) -> the gradients of sum(o * cotangent) + sum(state)."""

    def gradient(*arguments):
        *x, cotangent = arguments
        (_, state), pull = jax.vjp(forward_of(implementation), *x)
        return pull((cotangent, jnp.ones_like(state)))

    return gradient


def run(peer: Callable, peer_name: str, rounds: int, shape: Shape = SHAPE) -> Result:
    """Times both sides in turns. `peer` is built like `build`: (inputs, cotangent, differentiate) -> (run, results)."""
    arrays, cotangent = inputs(shape)
    rows, notes = [], []
    for label, differentiate in (("forward", False), ("forward + backward", True)):
        ours, theirs = (make(arrays, cotangent, differentiate) for make in (build, peer))
        names = NAMES if differentiate else ("o", "final state")
        row, more = duel("gated delta rule", label, ours, theirs, peer_name, names, rounds)
        rows.append(row)
        notes += more
    return Result("op", f"gated delta rule, {shape}", rows, tuple(notes))
