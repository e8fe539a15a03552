"""The ops on a table's rows: the value bag and the products of rows with the token's vector.

Their backwards sum the table's gradient, which is measured by itself too: a kernel of its own, whose time depends on
how many reads a row has.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.kernels.problem import Arrays, Problem
from memjax import ops
from memjax.ops.implementations import serving
from memjax.ops.value_bag import gradients

TOKENS = slice(-16, None)  # whose results are compared; their first reads are the rows whose gradient is


@dataclasses.dataclass(frozen=True)
class Table(Problem):
    """A table of M rows of width V, the tokens T, and the rows J that each reads, drawn uniformly."""

    rows: int
    width: int
    tokens: int
    reads: int
    dtype: str = "bfloat16"

    @property
    def label(self) -> str:
        return f"M{self.rows} V{self.width} T{self.tokens} J{self.reads} {self.dtype}"

    @property
    def other(self) -> str:
        """The input that is not the table."""
        return self.wrt[1]

    def draw(self, key):
        keys = iter(jax.random.split(key, 4))
        values = jax.random.normal(next(keys), (self.rows, self.width), self.dtype)
        indices = jax.random.randint(next(keys), (self.tokens, self.reads), 0, self.rows, jnp.int32)
        a_read = jax.random.normal(next(keys), (self.tokens, self.reads), jnp.float32)
        a_token = jax.random.normal(next(keys), (self.tokens, self.width), self.dtype)
        pair = (a_read, a_token) if self.other == "weights" else (a_token, a_read)
        return {"values": values, "indices": indices, self.other: pair[0], "cotangent": pair[1]}

    def forward(self, arrays, implementation):
        call = getattr(ops, self.op)
        return {"o": call(arrays["values"], arrays["indices"], arrays[self.other], implementation=implementation)}

    def sample(self, results: Arrays, arrays: Arrays):
        pick = lambda name, x: x[_rows(arrays)] if name == "d values" else x[TOKENS]
        return {name: np.asarray(pick(name, x)) for name, x in results.items()}

    def truth(self, arrays: Arrays):
        wide = lambda x: np.asarray(x).astype(np.float64)
        indices = np.asarray(arrays["indices"])
        read = wide(arrays["values"][arrays["indices"][TOKENS]])  # [tokens, J, V]
        other, cotangent = (wide(arrays[name][TOKENS]) for name in (self.other, "cotangent"))
        summed = lambda weights: np.einsum("tj,tjv->tv", weights, read)
        dotted = lambda x: np.einsum("tv,tjv->tj", x, read)
        first, second = (summed, dotted) if self.other == "weights" else (dotted, summed)
        # the reads of some rows, wherever they are: sum of weight times vector
        a_read, a_token = (np.asarray(arrays[name]) for name in _by_size(self.other))
        table = np.zeros((len(_rows(arrays)), self.width))
        for gradient, row in zip(table, _rows(arrays), strict=True):
            tokens, columns = np.nonzero(indices == row)
            gradient += wide(a_read[tokens, columns]) @ wide(a_token[tokens])
        return {"o": first(other), f"d {self.other}": second(cotangent), "d values": table}

    def bytes(self, gradient):
        width = self.width * jnp.dtype(self.dtype).itemsize
        reads, vectors = self.tokens * self.reads, self.tokens * width
        forward = reads * (width + 8) + vectors  # rows, indices, weights; a vector a token
        # the rows again, a number a read and a vector a token in, as many out, the table's gradient
        return forward + (reads * (width + 12) + 2 * vectors + self.rows * width if gradient else 0)

    def flops(self, gradient):
        return (3 if gradient else 1) * 2.0 * self.tokens * self.reads * self.width


@dataclasses.dataclass(frozen=True)
class ValueBag(Table):
    op = "value_bag"
    wrt = ("values", "weights")


@dataclasses.dataclass(frozen=True)
class RowDots(Table):
    op = "row_dots"
    wrt = ("values", "x")


@dataclasses.dataclass(frozen=True)
class TableGradient(Table):
    """The gradient of the table in the backward of the value bag, and nothing else."""

    op = "table_gradient"
    wrt = ("values", "weights")
    modes = ("backward",)

    def forward(self, arrays, implementation):
        inputs = [arrays[name] for name in ("weights", "cotangent", "values")]
        serving(self.op, implementation, gradients.refusals(arrays["indices"].size, *inputs))
        return {"d values": gradients.dense(arrays["indices"], *inputs, implementation)}

    def bytes(self, gradient):
        width = self.width * jnp.dtype(self.dtype).itemsize
        return 8 * self.tokens * self.reads + (self.tokens + self.rows) * width

    def flops(self, gradient):
        return 2.0 * self.tokens * self.reads * self.width


def _rows(arrays: Arrays) -> np.ndarray:
    """The rows whose gradient is compared: some that were read."""
    return np.unique(np.asarray(arrays["indices"][TOKENS, 0]))


def _by_size(other: str) -> tuple[str, str]:
    """Names of what has a number a read, and of what has a vector a token."""
    return ("weights", "cotangent") if other == "weights" else ("cotangent", "x")
