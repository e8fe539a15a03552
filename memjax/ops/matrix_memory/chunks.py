"""The mathematics of one chunk of one head, on matrices that lie in the registers of a TPU core.

As in `gated_delta_rule.xla` and `gated_linear_attention.xla`, whose heads have the equations, written so that Mosaic
compiles it: two-dimensional values of float32, masks from iota, no reshape, no cumulative sum. Every product of float32
names the highest precision, forward and backward; a product of two bfloat16 inputs is exact as it is.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.pallas import tpu as pltpu

ROWS = 16  # of a sub-chunk, under a gate a channel
_DIMS = {"nn": ((1,), (0,)), "nt": ((1,), (1,)), "tn": ((0,), (0,))}


def dot(x, y, form="nn", narrow=None) -> jax.Array:
    """x y, x y^T or x^T y in float32; `narrow` is the dtype that both were widened from, if a chip multiplies it."""
    return _dot(x, y, form, narrow)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _dot(x, y, form, narrow):
    precision = jax.lax.Precision.HIGHEST
    if narrow == jnp.bfloat16:
        x, y, precision = x.astype(narrow), y.astype(narrow), jax.lax.Precision.DEFAULT
    dims = (_DIMS[form], ((), ()))
    return jax.lax.dot_general(x, y, dims, precision=precision, preferred_element_type=jnp.float32)


def _dot_backward(form, narrow, saved, g):
    del narrow  # the cotangent is wide
    x, y = saved
    if form == "nn":
        return dot(g, y, "nt"), dot(x, g, "tn")
    if form == "nt":
        return dot(g, y), dot(g, x, "tn")
    return dot(y, g, "nt"), dot(x, g)


_dot.defvjp(lambda x, y, form, narrow: (_dot(x, y, form, narrow), (x, y)), _dot_backward)


class Documents(NamedTuple):
    """Attributes: row [1, C], the number of each token's document; incoming [1, 1], that of the state; float32."""

    row: jax.Array
    incoming: jax.Array


class Products(NamedTuple):
    """What a chunk needs of keys, queries and gates, as `gated_delta_rule.xla.Chunks`.

    Attributes: a: [C, C] strictly lower, beta included, or None. p: [C, C] lower. k_in (or None), q_in, k_out: [C, K].
    keep: [1, 1] or [K, 1].
    """

    a: Any
    p: jax.Array
    k_in: Any
    q_in: jax.Array
    k_out: jax.Array
    keep: jax.Array


@partial(jax.jit, static_argnames=("scale", "narrow"))  # traced once for all kernels
def products(q, k, log_decay, beta, docs, *, scale, narrow) -> Products:
    """From q, k [C, K], log_decay [1, C] or [C, K], beta [1, C] or None, `Documents` or None, and the factor on q."""
    i, j = _grid(k.shape[0])
    a: Any = None
    if log_decay.shape[0] == 1:
        decay, start, end, total = _scalar(log_decay, i, j)
        p = decay * dot(q, k, "nt", narrow)
        if beta is not None:
            a = jnp.where(j < i, decay, 0) * dot(k, k, "nt", narrow)
    else:
        (p, a), start, end, total = _channel(q, None if beta is None else k, k, log_decay, i, j)
    if docs is not None:
        own, last = column(docs.row), docs.row[:, -1:]
        same = own == docs.row
        p, a = jnp.where(same, p, 0), None if a is None else jnp.where(same, a, 0)
        start = jnp.where(own == docs.incoming, start, -jnp.inf)
        end = jnp.where(own == last, end, -jnp.inf)
        total = jnp.where(last == docs.incoming, total, -jnp.inf)
    from_start = jnp.exp(start)
    keep = jnp.exp(total if total.shape[1] == 1 else column(total))
    k_in = None if beta is None else from_start * k
    a = None if beta is None else column(beta) * a
    return Products(a, scale * p, k_in, scale * from_start * q, jnp.exp(end) * k, keep)


def _scalar(log_decay, i, j):
    """Of [1, C]: the decay from j to i [C, C], the log-decays from the start to i and from i to the end [C, 1], and
    over the chunk [1, 1]; sums of the terms between alone."""
    after = jnp.where(i > j, column(log_decay), 0)  # [m, j]: the term of m, if it lies behind j
    sums = dot(jnp.where(j <= i, 1.0, 0.0), after)
    total = lambda mask: jnp.sum(jnp.where(mask, log_decay, 0), 1, keepdims=True)
    return jnp.exp(jnp.where(j <= i, sums, -jnp.inf)), total(j <= i), total(j > i), jnp.sum(log_decay, 1, keepdims=True)


def _channel(q, k_row, k, log_decay, i, j) -> tuple[Any, ...]:
    """Of [C, K]: decayed q k^T (lower) and k_row k^T (strictly lower; None for None), and as `_scalar`, [C, K], [1, K].

    Sub-chunks of ROWS tokens. A pair in two of them decays from j to the border before i's and from there to i, one
    product a sub-chunk; a pair in one of them is summed over channels, one diagonal at a time.
    """
    size = k.shape[0]
    inside = _block(i, ROWS) == _block(j, ROWS)
    upto = lambda mask: dot(jnp.where(mask, 1.0, 0.0), log_decay)
    near = jnp.exp(upto((j <= i) & inside))
    rows = [x for x in (q, k_row) if x is not None]
    found = [[jnp.zeros((ROWS, size), jnp.float32)] for _ in rows]
    for first in range(ROWS, size, ROWS):
        far = jnp.where(i[:, :1] < first, k * jnp.exp(upto((j > i) & (j < first))), 0)
        mine = slice(first, first + ROWS)
        for row, parts in zip(rows, found, strict=True):
            parts.append(dot(row[mine] * near[mine], far, "nt"))
    found = [jnp.concatenate(parts) for parts in found]
    back, moved = jnp.zeros_like(log_decay), log_decay  # from i - d to i; the log-decays d tokens earlier
    for d in range(min(ROWS, size)):
        other = jnp.exp(back) * _down(k, d)
        here = (i - j == d) & inside
        for n, row in enumerate(rows[:1] if d == 0 else rows):
            found[n] += jnp.where(here, jnp.sum(row * other, 1, keepdims=True), 0)
        back, moved = back + moved, _down(moved, 1)
    p, a = (*found, None)[:2]
    return (p, a), upto(j <= i), upto(j > i), jnp.sum(log_decay, 0, keepdims=True)


def _down(x, by) -> jax.Array:
    """Row i - by in place of row i; the first rows come from the end."""
    return _roll(x, by)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _roll(x, by):
    return pltpu.roll(x, by, 0) if by else x


_roll.defvjp(lambda x, by: (_roll(x, by), None), lambda by, _, g: (_roll(g, -by % g.shape[0]),))


def column(row):
    """[1, C] as [C, 1]."""
    i, j = _grid(row.shape[1])
    return jnp.sum(jnp.where(i == j, row, 0), 1, keepdims=True)


def row(column):
    """[C, 1] as [1, C]."""
    i, j = _grid(column.shape[0])
    return jnp.sum(jnp.where(i == j, column, 0), 0, keepdims=True)


def _grid(size):
    return [jax.lax.broadcasted_iota(jnp.int32, (size, size), axis) for axis in (0, 1)]


def _block(number, size):
    """The number of the block of `size`, a power of two, that a token is in."""
    return jax.lax.shift_right_logical(number, size.bit_length() - 1)


def invert(a):
    """(I + a)^-1 for strictly lower a [C, C], C a power of two.

    Blocks that are solved are joined in pairs, from single rows on: X <- X - X L X, where L holds the corners of a
    between them. No power of a is formed, and there is nothing to substitute row by row.
    """
    i, j = _grid(a.shape[0])
    x, half = jnp.where(i == j, 1.0, 0.0), 1
    while half < a.shape[0]:
        corner = jnp.where((_block(i, 2 * half) == _block(j, 2 * half)) & (_block(i, half) != _block(j, half)), a, 0)
        x = x - (corner if half == 1 else dot(dot(x, corner), x))
        half *= 2
    return x


def write(state, v, beta, inverse, chunk: Products) -> tuple[Any, jax.Array]:
    """E and V' [C, V]: what the memory gets wrong (None without the delta rule) and what the chunk writes."""
    if inverse is None:
        return None, v
    error = v - dot(chunk.k_in, state)
    return error, dot(inverse, column(beta) * error)


def next_state(state, written, chunk: Products):
    """The memory [K, V] behind the chunk, which has written `written` [C, V]."""
    return chunk.keep * state + dot(chunk.k_out, written, "tn")


def backward(d_next, d_o, state, v, beta, inverse, chunk: Products):
    """The cotangents of the chunk's products, of v, of beta [1, C] beside that in `a`, and of the state before it."""
    error, written = write(state, v, beta, inverse, chunk)
    d_written = dot(chunk.p, d_o, "tn") + dot(chunk.k_out, d_next)
    d_keep = jnp.sum(d_next * state, 1, keepdims=True)
    d_chunk = Products(
        a=None,
        p=dot(d_o, written, "nt"),
        k_in=None,
        q_in=dot(d_o, state, "nt"),
        k_out=dot(written, d_next, "nt"),
        keep=d_keep if chunk.keep.shape[0] > 1 else jnp.sum(d_keep, 0, keepdims=True),
    )
    d_state = chunk.keep * d_next + dot(chunk.q_in, d_o, "tn")
    if inverse is None:
        return d_chunk, d_written, None, d_state
    d_r = dot(inverse, d_written, "tn")
    d_v = column(beta) * d_r
    d_chunk = d_chunk._replace(a=-dot(d_r, written, "nt"), k_in=-dot(d_v, state, "nt"))
    return d_chunk, d_v, row(jnp.sum(d_r * error, 1, keepdims=True)), d_state - dot(chunk.k_in, d_v, "tn")
