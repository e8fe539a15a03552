"""Decay-weighted products inside a chunk, exact at any strength of the gate.

The decay from token j to token i is the exponential of a sum of log-decays. Such a sum is formed only from the terms
between j and i, never as a difference of two longer sums: differences lose the small decays behind a strong one, and
factoring exp(G_i) exp(-G_j) overflows. All exponents here are <= 0, and masks act on the exponent.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_HIGHEST = jax.lax.Precision.HIGHEST
CLOSED = -1e30
"""The least log-decay: as good as -inf, and neither it nor a sum of such is infinite in bfloat16, of which products of
float32 are made on accelerators: there 0 times infinity would be NaN."""


class Masks(NamedTuple):
    """Which tokens of a chunk may see each other when documents are packed; N chunks lead, M rows of batch and heads.

    Attributes:
        same: [N, M, C, C] i and j are in one document.      from_start: [N, M, C] i continues the incoming state.
        to_end: [N, M, C] j reaches the outgoing state.      through: [N, M] the incoming state survives.
    """

    same: jax.Array
    from_start: jax.Array
    to_end: jax.Array
    through: jax.Array


def masks(index, first=None) -> Masks:
    """Masks from document numbers [N, M, C] (`segments.documents`); `first` [N, M] marks chunks before which none of
    their memory's tokens stands: these continue its incoming state as document 0."""
    last = index[..., -1]
    incoming = jnp.pad(last[:-1], ((1, 0), (0, 0)))
    if first is not None:
        incoming = jnp.where(first, 0, incoming)
    return Masks(
        same=index[..., :, None] == index[..., None, :],
        from_start=index == incoming[..., None],
        to_end=index == last[..., None],
        through=last == incoming,
    )


def finite(log_decay):
    """log_decay, `CLOSED` at least; each back end does so where it reads the gate, so that no array more is formed."""
    return jnp.maximum(log_decay, CLOSED)


def none(k):
    """As `scalar` for keys [N, M, C, K] that never decay."""
    size = k.shape[-2]
    nothing = jnp.zeros((*k.shape[:-1], 1), k.dtype)
    return jnp.asarray(np.tri(size)[None, None], k.dtype), nothing, nothing


def scalar(log_decay):
    """Under one gate a head, log_decay [N, M, C]: the decay from j to i, [N, M, C, C], zero above the diagonal, and the
    log-decays from the chunk's start to i and from i to its end, [N, M, C, 1]."""
    size = log_decay.shape[-1]
    lower, strict = (np.tri(size, k=k, dtype=bool)[None, None] for k in (0, -1))
    ones = jnp.asarray(lower[0, 0], log_decay.dtype)
    after_j = jnp.where(strict, log_decay[..., None], 0)  # [N, M, m, j]: the term of m, if it lies behind j
    sums = jnp.einsum("im,nbmj->nbij", ones, after_j, precision=_HIGHEST)
    start = jnp.einsum("im,nbm->nbi", ones, log_decay, precision=_HIGHEST)
    return jnp.exp(jnp.where(lower, sums, -jnp.inf)), start[..., None], sums[..., -1, :, None]


def channel(q, k, log_decay):
    """Under a gate a channel, log_decay [N, M, C, K]: decayed k k^T (strictly lower) and q k^T (lower), [N, M, C, C],
    and the log-decays from the chunk's start to i and from i to its end, [N, M, C, K].

    Halves of blocks are joined level by level.

    A pair in the two halves of a block decays from j to the border and from the border to i, so each corner is one
    product of operands whose exponents are sums of terms <= 0.
    """
    size = k.shape[-2]
    blocks = lambda x, n: x.reshape(*x.shape[:-2], -1, 2, n, x.shape[-1])
    second = np.asarray([False, True]).reshape(1, 1, 1, 2, 1, 1)
    flat = lambda x: x.reshape(*x.shape[:-4], size, x.shape[-1])
    start, end = log_decay, jnp.zeros_like(log_decay)
    keys = jnp.zeros((*k.shape[:-1], size), k.dtype)
    queries = (q * k).sum(-1)[..., None] * jnp.eye(size, dtype=k.dtype)[None, None]
    half = 1
    while half < size:
        starts, ends = blocks(start, half), blocks(end, half)
        near = jnp.exp(starts[..., 1, :, :])
        far = blocks(k, half)[..., 0, :, :] * jnp.exp(ends[..., 0, :, :])
        keys += _place(_product(blocks(k, half)[..., 1, :, :] * near, far))
        queries += _place(_product(blocks(q, half)[..., 1, :, :] * near, far))
        total = starts[..., -1:, :]
        start = flat(starts + jnp.where(second, total[..., :1, :, :], 0))
        end = flat(ends + jnp.where(second, 0, total[..., 1:, :, :]))
        half *= 2
    return (keys, queries), start, end


def _place(corner):
    """[.., C, C], zero but for the corners [.., n, s, s] in the lower left of its n diagonal blocks of size 2 s."""
    count, half = corner.shape[-3:-1]
    rows = corner.reshape(-1, count, half, half)
    blocks = jnp.pad(rows, ((0, 0), (0, 0), (half, 0), (0, half)))
    own = np.eye(count, dtype=bool).reshape(1, count, 1, count, 1)
    full = jnp.where(own, blocks[:, :, :, None, :], 0)
    return full.reshape(*corner.shape[:-3], 2 * count * half, 2 * count * half)


def _product(x, y):
    """x y^T over the last two axes; below 16 rows as a sum, which XLA vectorises over the leading axes.

    The leading axes are folded into one: with jax 0.10.2 (no more with 0.11.2) XLA's CPU back end crashes at run time
    in a large sum over seven axes, which a vmap over the unfolded form reaches.
    """
    if x.shape[-2] >= 16:
        return jnp.einsum("...ik,...jk->...ij", x, y, precision=_HIGHEST)
    flat = lambda z: z.reshape(-1, *z.shape[-2:])
    return (flat(x)[:, :, None, :] * flat(y)[:, None, :, :]).sum(-1).reshape(*x.shape[:-1], y.shape[-2])


def to_borders(start, end, mask):
    """exp of the log-decays from the start, to the end and over the whole chunk (as its last start, [N, M, 1, ..]);
    zero where a border of documents lies between."""
    total = start[..., -1:, :]
    if mask is not None:
        start = jnp.where(mask.from_start[..., None], start, -jnp.inf)
        end = jnp.where(mask.to_end[..., None], end, -jnp.inf)
        total = jnp.where(mask.through[..., None, None], total, -jnp.inf)
    return jnp.exp(start), jnp.exp(end), jnp.exp(total)
