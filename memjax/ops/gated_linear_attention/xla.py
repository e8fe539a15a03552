"""Gated linear attention in chunks of matrix products, forward and backward, for XLA on any platform.

Inside a chunk of C tokens, with S the state before it, p_i the decay from its start to token i, r_j from token j to its
end and D_ij from j to i (Yang et al., arXiv 2312.06635, section 4; Dao and Gu, arXiv 2405.21060, section 6):

    P = lower(D_ij q_i.k_j)        O = (p Q) S + P V        S <- keep S + (r K)^T V

A gate a channel decays rows of Q and K before the products. A gate a head decays rows of the results instead: the R
value heads that read one key head then share q, k and their products, and lie side by side in [K, R V] matrices.
The backward keeps the inputs alone and rebuilds the states chunk by chunk.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from memjax.ops import chunking, decays, routing

_dot = partial(jnp.einsum, precision="highest")


def forward(q, k, v, log_decay, state, index, *, scale):
    """o and the final state; arguments as in `matrix_memory.Arguments`, index [B, T]."""
    by_channel, inputs = _by_channel(log_decay), _lay_out(scale, q, k, v, log_decay, state)
    (o, final), _ = _forward(by_channel, *inputs, _masks(index, q, v, by_channel), None)
    return chunking.join(o, *v.shape[:2]).reshape(v.shape).astype(v.dtype), _heads_first(final, state)


def backward(q, k, v, log_decay, state, index, d_o, d_final, *, scale):
    """The gradients of all float arguments."""
    by_channel = _by_channel(log_decay)
    inputs, pull = jax.vjp(partial(_lay_out, scale), q, k, v, log_decay, state)
    by_head = lambda x: x.reshape(*v.shape[:2], inputs[0].shape[1] // v.shape[0], -1).astype(state.dtype)
    cotangents = chunking.split(by_head(d_o), chunking.size(v.shape[1])), _heads_last(d_final, inputs[-1].shape[0])
    found = _backward(by_channel, (*inputs, _masks(index, q, v, by_channel), None), cotangents)
    return pull(found[: len(inputs)])


def _lay_out(scale, q, k, v, log_decay, state):
    """The float arguments of `_chunked`: wide, in chunks, value heads by the key head they read."""
    batch, time, groups, _ = v.shape
    heads = _key_heads(batch, q.shape[2], groups, _by_channel(log_decay))
    q, k, v = (x.astype(state.dtype) for x in (q, k, v))
    q, k = (jnp.repeat(x, heads // x.shape[2], axis=2) for x in (q * scale, k))
    split = partial(chunking.split, chunk=chunking.size(time))
    by_key_head = lambda x: split(x.reshape(batch, time, heads, -1))  # [N, M, C, R V], [N, M, C, R] or [N, M, C, K]
    gate = None if log_decay is None else by_key_head(decays.finite(log_decay))
    return split(q), split(k), by_key_head(v), gate, _heads_last(state, batch * heads)


def _by_channel(log_decay):
    return log_decay is not None and log_decay.ndim == 4


def _masks(index, q, v, by_channel):
    if index is None:
        return None
    batch, time, groups, _ = v.shape
    index = jnp.broadcast_to(index[:, :, None], (batch, time, _key_heads(batch, q.shape[2], groups, by_channel)))
    return decays.masks(chunking.split(index, chunking.size(time), mode="edge"))


def _heads_last(state, rows):
    """[B, G, K, V] as [M, K, R, V]."""
    return jnp.moveaxis(state.reshape(rows, -1, *state.shape[2:]), 1, 2)


def _heads_first(state, like):
    return jnp.moveaxis(state, 2, 1).reshape(like.shape)


def over_stream(q, k, v, log_decay, *, table, stream, scale=None):
    """The recurrence on a `routing.Stream` of S memories, in float32.

    Args:
        q, k: [B, L, H, K].    v: [B, L, G, V].    log_decay: as in the op; 0, and k = 0, where no token stands.
        table: [B, S, G, K, V] float32, the states of the memories.    scale: factor on q, K ** -0.5 when None.

    Returns o [B, L, G, V] and the new table, zero where a memory holds nothing of the row's last document.
    """
    batch, length, groups, _ = v.shape
    by_channel = _by_channel(log_decay)
    scale = k.shape[-1] ** -0.5 if scale is None else scale
    q, k = (jnp.repeat(x, groups // x.shape[2], axis=2) for x in (q * scale, k))
    rows = routing.Rows(stream, groups)
    split = partial(chunking.split, chunk=rows.chunk)
    gate = None if log_decay is None else split(log_decay if by_channel else log_decay[..., None])
    inputs = (split(q), split(k), split(v), gate, rows.pack(table)[..., None, :], rows.masks, rows.slots)
    o, table = _chunked(by_channel, *inputs)
    return chunking.join(o, batch, length), rows.unpack(table[..., 0, :], stream)


def _key_heads(batch, heads, groups, by_channel):
    """How many heads q and k are repeated to: all under a gate a channel, else few, but rows enough to work in four."""
    if by_channel:
        return groups
    return next((heads * n for n in (1, 2, 4) if (groups // heads) % n == 0 and (batch * heads * n) % 4 == 0), heads)


class Chunks(NamedTuple):
    """What a chunk needs of queries, keys and gates, R value heads on a key head.

    Attributes:
        p: [N, M, R, C, C] lower; an axis of 1 in place of R here and below says that the value heads have it in common.
        q, k: [N, M, C, K].
        from_start, to_end: [N, M, C, R], what decays results and values; ones under a gate a channel, where q and k
            are decayed themselves.    keep: [N, M, 1 or K, R].
    """

    p: jax.Array
    q: jax.Array
    k: jax.Array
    from_start: jax.Array
    to_end: jax.Array
    keep: jax.Array


def products(by_channel, q, k, log_decay, mask) -> Chunks:
    """From q, k [N,M,C,K], log_decay None, [N,M,C,R] or (by channel) [N,M,C,K], and `decays.Masks` or None."""
    if by_channel:
        (_, p), start, end = decays.channel(q, k, log_decay)
        from_start, to_end, whole = decays.to_borders(start, end, mask)
        ones = jnp.ones_like(q[..., :1])
        chunks = Chunks(p[:, :, None], from_start * q, to_end * k, ones, ones, jnp.swapaxes(whole, -1, -2))
    else:
        gram = _dot("nbik,nbjk->nbij", q, k)
        if log_decay is None:
            decay, start, end = decays.none(k)
            decay = decay[:, :, None]
        else:
            decay, start, end = jax.vmap(decays.scalar, in_axes=-1, out_axes=(2, -1, -1))(log_decay)
            start, end = start[..., 0, :], end[..., 0, :]
        from_start, to_end, keep = decays.to_borders(start, end, mask)
        chunks = Chunks(decay * gram[:, :, None], q, k, from_start, to_end, keep)
    if mask is not None:
        chunks = chunks._replace(p=jnp.where(mask.same[:, :, None], chunks.p, 0))
    return chunks


def _forward(by_channel, *inputs):
    """Primal outputs and what the backward keeps: the inputs."""

    def run(parts, q, k, v, log_decay, state, masks, slots):
        states = chunking.cut_state(parts, slots, state)
        inputs = chunking.cut((q, k, log_decay, masks, v), parts, axis=1)
        xs = [(products(by_channel, *gated), v) for *gated, v in inputs]
        final, o = chunking.scan(_forward_step, states, xs, slots=chunking.cut_slots(parts, slots))
        return chunking.paste(o, axis=1), chunking.paste(final, chunking.state_axis(slots))

    return chunking.by_platform(run, inputs, heads=inputs[0], values=inputs[2]), inputs


def _backward(by_channel, saved, cotangents):
    def run(parts, q, k, v, log_decay, state, masks, slots, d_o, d_final):
        scan = partial(chunking.scan, slots=chunking.cut_slots(parts, slots))
        cut, xs, pulls = partial(chunking.cut_state, parts, slots), [], []
        for part in chunking.cut(((q, k, log_decay), masks, v, d_o), parts, axis=1):
            differentiable, mask, *rest = part
            chunks, pull = jax.vjp(lambda q, k, g, mask=mask: products(by_channel, q, k, g, mask), *differentiable)
            xs.append((chunks, *rest))
            pulls.append(pull)
        _, states = scan(_rebuild_step, cut(state), [x[:2] for x in xs])
        xs = [(*x, before) for x, before in zip(xs, states, strict=True)]
        d_state, by_part = scan(_backward_step, cut(d_final), xs, reverse=True)
        gradients = []
        for pull, (d_chunks, d_v) in zip(pulls, by_part, strict=True):
            d_q, d_k, d_log_decay = pull(d_chunks)
            gradients.append((d_q, d_k, d_v, d_log_decay))
        return (*chunking.paste(gradients, axis=1), chunking.paste(d_state, chunking.state_axis(slots)))

    inputs = (*saved, *cotangents)
    return *chunking.by_platform(run, inputs, heads=saved[0], values=saved[2]), None, None


_chunked = jax.custom_vjp(lambda *inputs: _forward(*inputs)[0], nondiff_argnums=(0,))
_chunked.defvjp(_forward, _backward)

# In the steps: state [M, K, R, V]; values [M, C, R V] as [M, C, R, V]; weights of rows [M, C, R].


def _forward_step(state, x):
    chunks, v = x
    v = _by_value_head(v, state)
    o = chunks.from_start[..., None] * _dot("mck,mkrv->mcrv", chunks.q, state) + _mix(chunks.p, v)
    return _next_state(chunks, v, state), o.reshape(*o.shape[:2], -1)


def _rebuild_step(state, x):
    chunks, v = x
    return _next_state(chunks, _by_value_head(v, state), state), state


def _next_state(chunks, v, state):
    return chunks.keep[..., None] * state + _dot("mck,mcrv->mkrv", chunks.k, chunks.to_end[..., None] * v)


def _by_value_head(v, state):
    return v.reshape(*v.shape[:2], *state.shape[2:])


def _backward_step(d_next, x):
    chunks, v, d_o, state = x
    v, d_o = (_by_value_head(z, state) for z in (v, d_o))
    d_read = chunks.from_start[..., None] * d_o
    d_write = _dot("mck,mkrv->mcrv", chunks.k, d_next)
    d_v = _mix(jnp.swapaxes(chunks.p, -1, -2), d_o) + chunks.to_end[..., None] * d_write
    d_keep = (d_next * state).sum(-1)
    d_chunks = Chunks(
        p=_dot("mirv,mjrv->mij", d_o, v)[:, None] if chunks.p.shape[1] == 1 else _dot("mirv,mjrv->mrij", d_o, v),
        q=_dot("mcrv,mkrv->mck", d_read, state),
        k=_dot("mcrv,mkrv->mck", chunks.to_end[..., None] * v, d_next),
        from_start=_like((d_o * _dot("mck,mkrv->mcrv", chunks.q, state)).sum(-1), chunks.from_start),
        to_end=_like((v * d_write).sum(-1), chunks.to_end),
        keep=_like(d_keep, chunks.keep),
    )
    d_state = chunks.keep[..., None] * d_next + _dot("mck,mcrv->mkrv", chunks.q, d_read)
    return d_state, (d_chunks, d_v.reshape(*d_v.shape[:2], -1))


def _mix(p, v):
    """P V for every value head; one product of [C, R V] where they have P in common."""
    return _dot("mij,mjrv->mirv", p[:, 0], v) if p.shape[1] == 1 else _dot("mrij,mjrv->mirv", p, v)


def _like(gradient, x):
    """The gradient summed over the axes along which x was broadcast."""
    axes = tuple(i for i, (a, b) in enumerate(zip(gradient.shape, x.shape, strict=True)) if a != b)
    return gradient.sum(axes, keepdims=True) if axes else gradient
