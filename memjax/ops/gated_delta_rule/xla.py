"""The gated delta rule in chunks of matrix products, forward and backward, for XLA on any platform.

Inside a chunk of C tokens, with S the state before it, p_i the decay from its start to token i, r_j from token j to its
end, D_ij from j to i (arXiv 2412.06464, section 3.3, and 2510.26692 for the gate a channel):

    A = strict_lower(beta_i D_ij k_i.k_j)      X = (I + A)^-1        P = lower(D_ij q_i.k_j)
    E = V - (p K) S        V' = X (beta E)     O = (p Q) S + P V'    S <- keep S + (r K)^T V'

The backward keeps q, k, v, the gates and X, rebuilds the states chunk by chunk, and needs no derivative of the
inverse: with dR = X^T dV', the cotangent of A is -strict_lower(dR V'^T).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from memjax.ops import chunking, decays, routing

_dot = partial(jnp.einsum, precision="highest")


def forward(q, k, v, log_decay, beta, state, index, *, scale):
    """o, the final state and the inverses [N, B, G, C, C]; arguments in `matrix_memory.Arguments`, index [B, T]."""
    inputs = _lay_out(scale, q, k, v, log_decay, beta, state)
    (o, final), (*_, inverse) = _forward(*inputs, _masks(index, v), None)
    inverse = inverse.reshape(inverse.shape[0], *v.shape[:3:2], *inverse.shape[2:])
    return chunking.join(o, *v.shape[:2]).astype(v.dtype), final.reshape(state.shape), inverse


def backward(q, k, v, log_decay, beta, state, index, inverse, d_o, d_final, *, scale):
    """The gradients of all float arguments."""
    inputs, pull = jax.vjp(partial(_lay_out, scale), q, k, v, log_decay, beta, state)
    d_o = chunking.split(d_o.astype(state.dtype), chunking.size(v.shape[1]))
    inverse = inverse.reshape(inverse.shape[0], -1, *inverse.shape[3:])
    found = _backward((*inputs, _masks(index, v), None, inverse), (d_o, d_final.reshape(inputs[-1].shape)))
    return pull(found[: len(inputs)])


def _lay_out(scale, q, k, v, log_decay, beta, state):
    """The float arguments of `_chunked`: wide, a key head a value head, in chunks."""
    groups, split = v.shape[2], partial(chunking.split, chunk=chunking.size(v.shape[1]))
    q, k, v, beta = (x.astype(state.dtype) for x in (q, k, v, beta))
    q, k = (jnp.repeat(x, groups // x.shape[2], axis=2) for x in (q * scale, k))
    gate = None if log_decay is None else split(decays.finite(log_decay))
    return split(q), split(k), split(v), gate, split(beta), state.reshape(-1, *state.shape[2:])


def _masks(index, v):
    if index is None:
        return None
    index = jnp.broadcast_to(index[:, :, None], v.shape[:3])
    return decays.masks(chunking.split(index, chunking.size(v.shape[1]), mode="edge"))


def over_stream(q, k, v, log_decay, beta, *, table, stream, scale=None):
    """The rule on a `routing.Stream` of S memories, in float32.

    Args:
        q, k: [B, L, H, K].    v: [B, L, G, V].    log_decay, beta: as in the op; 0, and k = 0, where no token stands.
        table: [B, S, G, K, V] float32, the states of the memories.    scale: factor on q, K ** -0.5 when None.

    Returns o [B, L, G, V] and the new table, zero where a memory holds nothing of the row's last document.
    """
    batch, length, groups, _ = v.shape
    scale = k.shape[-1] ** -0.5 if scale is None else scale
    q, k = (jnp.repeat(x, groups // x.shape[2], axis=2) for x in (q * scale, k))
    rows = routing.Rows(stream, groups)
    split = partial(chunking.split, chunk=rows.chunk)
    gate = None if log_decay is None else split(log_decay)
    o, table = _chunked(split(q), split(k), split(v), gate, split(beta), rows.pack(table), rows.masks, rows.slots)
    return chunking.join(o, batch, length), rows.unpack(table, stream)


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


def products(q, k, log_decay, beta, mask) -> Chunks:
    """From q, k [N,M,C,K], log_decay None, [N,M,C] or [N,M,C,K], beta [N,M,C] and `decays.Masks` or None."""
    if log_decay is not None and log_decay.ndim == k.ndim:
        (a, p), start, end = decays.channel(q, k, log_decay)
    else:
        decay, start, end = decays.none(k) if log_decay is None else decays.scalar(log_decay)
        strict = np.tri(k.shape[-2], k=-1, dtype=bool)[None, None]
        gram = lambda x: _dot("nbik,nbjk->nbij", x, k)
        a, p = jnp.where(strict, decay, 0) * gram(k), decay * gram(q)
    if mask is not None:
        a, p = (jnp.where(mask.same, x, 0) for x in (a, p))
    from_start, to_end, whole = decays.to_borders(start, end, mask)
    keep = jnp.swapaxes(whole, -1, -2)
    return Chunks(beta[..., None] * a, p, k_in=from_start * k, q_in=from_start * q, k_out=to_end * k, keep=keep)


@jax.custom_vjp
def _chunked(q, k, v, log_decay, beta, state, masks, slots):
    """`state` [M, K, V], or with `slots` [N, M] a table of states [S, M, K, V]."""
    return _forward(q, k, v, log_decay, beta, state, masks, slots)[0]


def _forward(*inputs):
    """Primal outputs and what the backward keeps: the inputs and the inverse."""

    def run(parts, q, k, v, log_decay, beta, state, masks, slots):
        cut, xs = partial(chunking.cut_state, parts, slots), []
        for part in chunking.cut((q, k, log_decay, beta, masks, v), parts, axis=1):
            chunks = products(*part[:5])
            xs.append((chunks, invert(chunks.a), part[5], part[3]))
        final, o = chunking.scan(_forward_step, cut(state), xs, slots=chunking.cut_slots(parts, slots))
        inverse = chunking.paste([inverse for _, inverse, _, _ in xs], axis=1)
        return chunking.paste(o, axis=1), chunking.paste(final, chunking.state_axis(slots)), inverse

    o, final, inverse = chunking.by_platform(run, inputs, heads=inputs[0], values=inputs[2])
    return (o, final), (*inputs, inverse)


def _backward(saved, cotangents):
    def run(parts, q, k, v, log_decay, beta, state, masks, slots, inverse, d_o, d_final):
        scan = partial(chunking.scan, slots=chunking.cut_slots(parts, slots))
        cut, xs, pulls = partial(chunking.cut_state, parts, slots), [], []
        for part in chunking.cut(((q, k, log_decay, beta), masks, inverse, v, d_o), parts, axis=1):
            differentiable, mask, *rest = part
            chunks, pull = jax.vjp(lambda q, k, g, b, mask=mask: products(q, k, g, b, mask), *differentiable)
            xs.append((chunks, *rest[:2], differentiable[-1], rest[2]))
            pulls.append(pull)
        _, rebuilt = scan(_rebuild_step, cut(state), [x[:4] for x in xs])
        xs = [(*x, *more) for x, more in zip(xs, rebuilt, strict=True)]
        d_state, by_part = scan(_backward_step, cut(d_final), xs, reverse=True)
        gradients = []
        for pull, (d_chunks, d_v, d_beta) in zip(pulls, by_part, strict=True):
            d_q, d_k, d_log_decay, d_beta_in_a = pull(d_chunks)
            gradients.append((d_q, d_k, d_v, d_log_decay, d_beta + d_beta_in_a))
        return (*chunking.paste(gradients, axis=1), chunking.paste(d_state, chunking.state_axis(slots)))

    return *chunking.by_platform(run, (*saved, *cotangents), heads=saved[0], values=saved[2]), None, None


_chunked.defvjp(_forward, _backward)


def _forward_step(state, x):
    (_, p, k_in, q_in, k_out, keep), inverse, v, beta = x
    _, written = _write(inverse, v, beta, k_in, state)
    o = _dot("mck,mkv->mcv", q_in, state) + _dot("mij,mjv->miv", p, written)
    return keep * state + _dot("mck,mcv->mkv", k_out, written), o


def _rebuild_step(state, x):
    chunks, inverse, v, beta = x
    error, written = _write(inverse, v, beta, chunks.k_in, state)
    return chunks.keep * state + _dot("mck,mcv->mkv", chunks.k_out, written), (state, error, written)


def _write(inverse, v, beta, k_in, state):
    """E and V', [M, C, V]: what the memory gets wrong, and what the chunk writes."""
    error = v - _dot("mck,mkv->mcv", k_in, state)
    return error, _dot("mij,mjv->miv", inverse, beta[..., None] * error)


def _backward_step(d_next, x):
    (_, p, k_in, q_in, k_out, keep), inverse, _, beta, d_o, state, error, written = x
    d_written = _dot("mij,miv->mjv", p, d_o) + _dot("mck,mkv->mcv", k_out, d_next)
    d_r = _dot("mij,miv->mjv", inverse, d_written)
    d_v = beta[..., None] * d_r
    d_keep = (d_next * state).sum(-1, keepdims=True)
    d_chunks = Chunks(
        a=-_dot("miv,mjv->mij", d_r, written),
        p=_dot("miv,mjv->mij", d_o, written),
        k_in=-_dot("mcv,mkv->mck", d_v, state),
        q_in=_dot("mcv,mkv->mck", d_o, state),
        k_out=_dot("mcv,mkv->mck", written, d_next),
        keep=d_keep if keep.shape[-2] > 1 else d_keep.sum(-2, keepdims=True),
    )
    d_state = keep * d_next + _dot("mck,mcv->mkv", q_in, d_o) - _dot("mck,mcv->mkv", k_in, d_v)
    return d_state, (d_chunks, d_v, (d_r * error).sum(-1))


def invert(a):
    """(I + a)^-1 for strictly lower a [N, M, C, C], C a power of two.

    Blocks of 16 rows by forward substitution, then doubled: with both halves of a block solved, the corner is
    -X22 a21 X11. No powers of a are formed (these overflow for long keys), and no LAPACK call.
    """
    size = a.shape[-1]
    half = min(16, size)
    blocks = a.reshape(*a.shape[:2], size // half, half, size // half, half)
    x = _substitute(jnp.stack([blocks[:, :, n, :, n] for n in range(size // half)], axis=2))
    while half < size:
        blocks = a.reshape(*a.shape[:2], -1, 2, half, size // (2 * half), 2, half)
        corners = jnp.stack([blocks[:, :, n, 1, :, n, 0] for n in range(size // (2 * half))], axis=2)
        upper, lower = x[:, :, 0::2], x[:, :, 1::2]
        corner = -_dot("nmbij,nmbjk,nmbkl->nmbil", lower, corners, upper)
        top = jnp.concatenate([upper, jnp.zeros_like(upper)], axis=-1)
        x = jnp.concatenate([top, jnp.concatenate([corner, lower], axis=-1)], axis=-2)
        half *= 2
    return x[:, :, 0]


def _substitute(a):
    """The same for small blocks [..., R, R], row by row: x[i] = e_i - sum_j a[i, j] x[j]."""
    size = a.shape[-1]
    unit = np.eye(size, dtype=a.dtype).reshape(*[1] * (a.ndim - 2), size, size)

    def row(i, x):
        below = jax.lax.dynamic_index_in_dim(a, i, axis=-2, keepdims=False)
        mine = jax.lax.dynamic_index_in_dim(jnp.asarray(unit), i, axis=-2, keepdims=False)
        solved = mine - (below[..., :, None] * x).sum(-2)
        return jax.lax.dynamic_update_index_in_dim(x, solved, i, axis=-2)

    return jax.lax.fori_loop(0, size, row, jnp.zeros_like(a))
