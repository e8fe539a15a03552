"""The value bag and its dots for XLA on any platform: loops over the columns of `indices`, all tokens at a time.

A step reads `COLUMNS` rows a token and adds them to the output, which XLA fuses into one pass over [T, V]; the gathered
rows are never written. Timed on a CPU (T 1024, J 128, V 256), gathering [T, J, V] at once takes eleven times as long,
one column a step 1.5 times, and gathering blocks of 1 to 64 tokens 1.5 to 2.8 times as long.
"""

import jax
import jax.numpy as jnp

from memjax.ops import mesh
from memjax.ops.value_bag import gradients

COLUMNS = 8


def value_bag(values, indices, weights, dtype):
    """Arguments as in `reference.value_bag`. Not differentiated: see `differentiable`."""
    tokens, bag = indices.shape
    wide = gradients.wide(values, weights)
    steps = -(-bag // COLUMNS)
    columns = -(-bag // steps)
    by_step = lambda x: jnp.pad(x.T, ((0, steps * columns - bag), (0, 0))).reshape(steps, columns, tokens)

    def step(total, column):
        at, weight = column
        for rows, own in zip(_rows(values, at, wide), weight, strict=True):
            total = total + own[:, None] * rows
        return total, None

    (start,) = mesh.varying_as([jnp.zeros((tokens, values.shape[1]), wide)], values, indices, weights)
    weights = jnp.where(indices < values.shape[0], weights, 0).astype(wide)
    return jax.lax.scan(step, start, (by_step(indices), by_step(weights)))[0].astype(dtype)


def row_dots(values, indices, x):
    """Arguments as in `reference.row_dots`. Not differentiated. A column at a time."""
    wide = gradients.wide(values, x)
    x = x.astype(wide)
    by_column = jax.lax.map(lambda at: (_rows(values, at[None], wide)[0] * x).sum(-1), indices.T)
    return jnp.where(indices < values.shape[0], by_column.T, 0)


def _rows(values, columns, wide):
    """For each column [T] of `columns` its rows [T, V]; the last one for the number M, whose weight is zero.

    Within a loop the barrier keeps XLA from widening a whole narrow table before the loop, as it does on a CPU.
    """
    if values.dtype != wide:
        values, columns = jax.lax.optimization_barrier((values, columns))
    return [gradients.take(values, jnp.minimum(at, values.shape[0] - 1)).astype(wide) for at in columns]
