"""The value bag and its dots for XLA on any platform: loops over the columns of `indices`, all tokens at a time.

A step reads `COLUMNS` rows a token and adds them to the output, which XLA fuses into one pass over [T, V]; the gathered
rows are never written. Timed on a CPU (T 1024, J 128, V 256), gathering [T, J, V] at once takes eleven times as long,
one column a step 1.5 times, and gathering blocks of 1 to 64 tokens 1.5 to 2.8 times as long.

The gradient of a read's weight is a dot, that of a dot's token is a bag: each op is the other's backward.
"""

from functools import partial

import jax
import jax.numpy as jnp

from memjax.ops.value_bag import gradients

COLUMNS = 8


def value_bag(values, indices, weights, dtype):
    """Arguments as in `reference.value_bag`."""
    # before the custom gradient, so that what one device alone holds of it is summed over the devices
    return _bag(*gradients.varying_as((values, indices, weights), values, indices, weights), dtype)


def row_dots(values, indices, x):
    """Arguments as in `reference.row_dots`."""
    return _dots(*gradients.varying_as((values, indices, x), values, indices, x))


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _bag(values, indices, weights, dtype):
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

    (start,) = gradients.varying_as([jnp.zeros((tokens, values.shape[1]), wide)], values, indices, weights)
    weights = jnp.where(indices < values.shape[0], weights, 0).astype(wide)
    return jax.lax.scan(step, start, (by_step(indices), by_step(weights)))[0].astype(dtype)


def _bag_backward(_, saved, cotangent):
    values, indices, weights = saved
    d_values = gradients.dense(indices, weights, cotangent, values)
    return d_values, None, _dots(values, indices, cotangent).astype(weights.dtype)


@jax.custom_vjp
def _dots(values, indices, x):
    """A column at a time."""
    wide = gradients.wide(values, x)
    x = x.astype(wide)
    by_column = jax.lax.map(lambda at: (_rows(values, at[None], wide)[0] * x).sum(-1), indices.T)
    return jnp.where(indices < values.shape[0], by_column.T, 0)


def _dots_backward(saved, cotangent):
    values, indices, x = saved
    return gradients.dense(indices, cotangent, x, values), None, _bag(values, indices, cotangent, x.dtype)


def _rows(values, columns, wide):
    """For each column [T] of `columns` its rows [T, V]; the last one for the number M, whose weight is zero.

    Within a loop the barrier keeps XLA from widening a whole narrow table before the loop, as it does on a CPU.
    """
    if values.dtype != wide:
        values, columns = jax.lax.optimization_barrier((values, columns))
    return [gradients.take(values, jnp.minimum(at, values.shape[0] - 1)).astype(wide) for at in columns]


_bag.defvjp(lambda *inputs: (_bag(*inputs), inputs[:3]), _bag_backward)
_dots.defvjp(lambda *inputs: (_dots(*inputs), inputs), _dots_backward)
