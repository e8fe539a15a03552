"""The value bag against torch's `embedding_bag` with weights, forward and forward + backward, float32.

The backward gives the gradients of the weights and, densely, of the table. Both get the same numbers, rows drawn
uniformly, and what they compute is compared before a time is printed.
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


@dataclasses.dataclass(frozen=True)
class Shape:
    """A table of M rows of width V, the number of tokens, and the rows that each reads (J), one or more numbers."""

    rows: int = 65536
    width: int = 256
    tokens: int = 1024
    bags: tuple[int, ...] = (32, 128)

    def __str__(self) -> str:
        return f"M{self.rows} V{self.width}, {self.tokens} tokens, float32"


SHAPE = Shape()


def inputs(shape: Shape, bag: int) -> tuple[list[np.ndarray], np.ndarray]:
    """values, indices, weights, and a cotangent of the output."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((shape.rows, shape.width), dtype=np.float32)
    indices = rng.integers(0, shape.rows, (shape.tokens, bag), dtype=np.int32)
    weights = rng.random((shape.tokens, bag), dtype=np.float32)
    return [values, indices, weights], rng.standard_normal((shape.tokens, shape.width), dtype=np.float32)


def build(arrays, cotangent, differentiate: bool, implementation: Any = None) -> tuple[Callable, Callable]:
    """(run, results): one call, and its numpy results, [o] or the gradients [values, weights]."""
    bag = lambda values, indices, weights: ops.value_bag(values, indices, weights, implementation=implementation)

    def gradient(values, indices, weights, cotangent):
        o, pull = jax.vjp(lambda values, weights: bag(values, indices, weights), values, weights)
        return *pull(cotangent), o  # with the output, so that the forward is not left out

    function = jax.jit(gradient if differentiate else lambda *x: (bag(*x),))
    arguments = [jnp.asarray(x) for x in (*arrays, *([cotangent] if differentiate else []))]
    last: list[Any] = []

    def run() -> None:
        last[:] = jax.block_until_ready(function(*arguments))

    return run, lambda: [np.asarray(x) for x in last[: 2 if differentiate else 1]]


def run(peer: Callable, peer_name: str, rounds: int, shape: Shape = SHAPE) -> Result:
    """Times both sides in turns. `peer` is built like `build`: (inputs, cotangent, differentiate) -> (run, results)."""
    rows, notes = [], []
    for bag in shape.bags:
        arrays, cotangent = inputs(shape, bag)
        for label, differentiate in (("forward", False), ("forward + backward", True)):
            ours, theirs = (make(arrays, cotangent, differentiate) for make in (build, peer))
            names = ("values", "weights") if differentiate else ("o",)
            row, more = duel("value bag", f"J{bag} {label}", ours, theirs, peer_name, names, rounds)
            rows.append(row)
            notes += more
    return Result("value_bag", f"value bag, {shape}", rows, tuple(notes))
