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


class Chunks(NamedTuple):
    """What a chunk needs of keys, queries and gates.

    Attributes:
        a: [N, M, C, C] strictly lower, beta included.    p: [N, M, C, C] lower.
        k_in, q_in: [N, M, C, K] decayed from the chunk's start.    k_out: decayed to its end.
        keep: [N, M, 1 or K, 1], the decay of the whole chunk.
    """

    a: jax.Array
    p: jax.Array
    k_in: jax.Array
    q_in: jax.Array
    k_out: jax.Array
    keep: jax.Array


def masks(index) -> Masks:
    """Masks from document numbers [N, M, C] (`segments.documents`)."""
    last = index[..., -1]
    incoming = jnp.pad(last[:-1], ((1, 0), (0, 0)))
    return Masks(
        same=index[..., :, None] == index[..., None, :],
        from_start=index == incoming[..., None],
        to_end=index == last[..., None],
        through=last == incoming,
    )


def chunks(q, k, log_decay, beta, mask) -> Chunks:
    """From q, k [N,M,C,K], log_decay None, [N,M,C] or [N,M,C,K], beta [N,M,C] and `Masks` or None."""
    log_decay = jnp.zeros_like(beta) if log_decay is None else log_decay
    by_channel = log_decay.ndim == k.ndim
    (a, p), start, end = (_channel if by_channel else _scalar)(q, k, log_decay)
    total = start[..., -1, :]
    if mask is not None:
        a, p = (jnp.where(mask.same, x, 0) for x in (a, p))
        start = jnp.where(mask.from_start[..., None], start, -jnp.inf)
        end = jnp.where(mask.to_end[..., None], end, -jnp.inf)
        total = jnp.where(mask.through[..., None], total, -jnp.inf)
    from_start = jnp.exp(start)
    return Chunks(
        a=beta[..., None] * a,
        p=p,
        k_in=from_start * k,
        q_in=from_start * q,
        k_out=jnp.exp(end) * k,
        keep=jnp.exp(total)[..., None],
    )


def _scalar(q, k, log_decay):
    """Decayed k k^T (strictly lower) and q k^T (lower); log-decays from the start and to the end [.., C, 1]."""
    size = log_decay.shape[-1]
    lower, strict = (np.tri(size, k=k, dtype=bool)[None, None] for k in (0, -1))
    ones = jnp.asarray(lower[0, 0], log_decay.dtype)
    after_j = jnp.where(strict, log_decay[..., None], 0)  # [N, M, m, j]: the term of m, if it lies behind j
    sums = jnp.einsum("im,nbmj->nbij", ones, after_j, precision=_HIGHEST)
    decay = jnp.exp(jnp.where(lower, sums, -jnp.inf))
    gram = lambda x: jnp.einsum("nbik,nbjk->nbij", x, k, precision=_HIGHEST)
    start = jnp.einsum("im,nbm->nbi", ones, log_decay, precision=_HIGHEST)
    return (jnp.where(strict, decay, 0) * gram(k), decay * gram(q)), start[..., None], sums[..., -1, :, None]


def _channel(q, k, log_decay):
    """The same under a gate a channel, log-decays [.., C, K]; halves of blocks joined level by level.

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
        keys += _place(product(blocks(k, half)[..., 1, :, :] * near, far, transpose_y=True))
        queries += _place(product(blocks(q, half)[..., 1, :, :] * near, far, transpose_y=True))
        total = starts[..., -1:, :]
        start = flat(starts + jnp.where(second, total[..., :1, :, :], 0))
        end = flat(ends + jnp.where(second, 0, total[..., 1:, :, :]))
        half *= 2
    return (keys, queries), start, end


def _place(corner):
    """[.., C, C], zero but for the corners [.., n, s, s] in the lower left of its n diagonal blocks of size 2 s."""
    count, half = corner.shape[-3:-1]
    own = np.zeros((1, 1, count, 2, 1, count, 2, 1), bool)  # axes: N, M, block and half of i, i, block and half of j, j
    own[:, :, np.arange(count), 1, :, np.arange(count), 0] = True
    full = jnp.where(own, corner[:, :, :, None, :, None, None, :], 0)
    return full.reshape(*corner.shape[:2], 2 * count * half, 2 * count * half)


def product(x, y, transpose_y=False):
    """x y or x y^T over the last two axes; below 16 rows as a sum, which XLA vectorises over the leading axes."""
    if x.shape[-2] >= 16:
        return jnp.einsum("...ik,...jk->...ij" if transpose_y else "...ik,...kj->...ij", x, y, precision=_HIGHEST)
    y = y if transpose_y else jnp.swapaxes(y, -1, -2)
    return (x[..., :, None, :] * y[..., None, :, :]).sum(-1)
