"""Both ops on the kernels: what stands before, between and behind them."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from memjax.ops.hopper import channels, frame, gradients, inside, sequence
from memjax.ops.hopper.inside import cut, paste, problem, square, widen
from memjax.ops.hopper.tiles import whole


@partial(jax.jit, static_argnames=("scale", "interpret"))  # traced once, not in every layer and program
def forward(q, k, v, log_decay, beta, state, index, *, scale, interpret):
    """(o, final, inverse [N, B, G, C, C]); beta None: linear attention, and the inverse None."""
    x = problem(q, k, v, log_decay, beta, index, scale)
    chunks, inverse = inside.chunks(x, interpret=interpret)
    o, final = sequence.forward(chunks, x.v, square(state), interpret=interpret)
    return o[:, : v.shape[1], :, : v.shape[3]], final[:, :, : k.shape[3], : v.shape[3]], inverse


@partial(jax.jit, static_argnames=("scale", "interpret"))
def backward(q, k, v, log_decay, beta, state, index, inverse, d_o, d_final, *, scale, interpret):
    """Gradients of q, k, v, log_decay, beta and state, None for what is None."""
    x = problem(q, k, v, log_decay, beta, index, scale)
    delta, run = beta is not None, {"interpret": interpret}
    chunks, _ = inside.chunks(x, inverse, **run)
    d_o = widen(d_o.astype(jnp.bfloat16))
    states, *saved = sequence.rebuild(chunks, x.v, square(state), **run)
    d_states, d_r, d_state = sequence.reverse(chunks, d_o, square(d_final), **run)
    error, written = saved or (None, x.v[None])
    d_p, *more = (_flat(y) for y in gradients.inner(d_o[None], d_r, written, error, **run))
    d_a = -more[0] if more else None
    outer = partial(gradients.outer, d_o[None], d_r, written, states, d_states, delta=delta, **run)
    of_chunks = _by_channel if x.by_channel else _by_head
    d_q, d_k, d_log_decay, d_beta = of_chunks(x, chunks, d_p, d_a, outer)
    d_v = whole(d_r)
    if x.beta is not None:
        d_beta += paste(more[1], v.shape[0])
        d_v *= x.beta[..., None]
    crop = lambda y, like: None if like is None else y[tuple(slice(0, n) for n in like.shape)].astype(like.dtype)
    found, given = (d_q, d_k, d_v, d_log_decay, d_beta, d_state), (q, k, v, log_decay, beta, state)
    return tuple(crop(y, like) for y, like in zip(found, given, strict=True))


def _by_head(x, chunks, d_p, d_a, outer) -> Any:
    """Gradients of q, k, log_decay and beta, the latter through A alone, under one gate a head or none."""
    batch, groups = x.v.shape[0], x.v.shape[2]
    gates = partial(inside.gates, x)
    (decay, *_), pull = jax.vjp(gates, x.log_decay)
    gram_q, gram_k = inside.grams(x)
    m_q, d_decay, m_k, d_beta = x.scale * decay * d_p, x.scale * gram_q * d_p, None, None
    if d_a is not None:
        beta, strict = cut(x.beta, groups)[..., None], inside.strictly_lower(decay)
        d_decay += inside.strictly_lower(beta * gram_k * d_a)
        d_beta = paste((strict * gram_k * d_a).sum(-1), batch)
        m_k = beta * strict * d_a
        m_k = inside.matrix_parts(m_k + jnp.swapaxes(m_k, -1, -2), batch)
    finish = gradients.Finish(chunks.q, chunks.k_in, inside.matrix_parts(m_q, batch), m_k, chunks.rows)
    d_q, d_k, d_rows, d_keep = outer(finish)
    d_rows, d_whole = _flat(d_rows).sum(2), _flat(d_keep).sum(-1)
    d_start = x.scale * d_rows[:, :, frame.QUERY] + d_rows[:, :, frame.READ]
    (d_log_decay,) = pull((d_decay, d_start, d_rows[:, :, frame.WRITE], d_whole))
    return _over_heads(x, d_q), _over_heads(x, d_k), d_log_decay, d_beta


def _by_channel(x, chunks, d_p, d_a, outer) -> Any:
    """The same under a gate a channel."""
    batch, groups = x.v.shape[0], x.v.shape[2]
    parts, m_k = partial(inside.matrix_parts, batch=batch), None
    seen = (lambda m: m) if x.masks is None else lambda m: jnp.where(x.masks.same, m, 0)
    if d_a is not None:
        below = inside.strictly_lower(seen(d_a))
        m_k = parts(below + jnp.swapaxes(cut(x.beta, groups)[..., None] * below, -1, -2))
    m_q = parts(x.scale * seen(d_p))
    finish = channels.Finish(x.q[None], x.k[None], x.log_decay, m_q, m_k, chunks.rows, chunks.keep)
    d_q, d_k, d_log_decay, *d_beta = outer(finish)
    d_beta = paste(_flat(d_beta[0]).sum(2), batch) if d_beta else None
    return _over_heads(x, d_q), _over_heads(x, d_k), d_log_decay, d_beta


def _over_heads(x, y):
    """[B, T, G, K] summed over the value heads that read one key head."""
    heads = x.k.shape[2]
    return y if y.shape[2] == heads else y.reshape(*y.shape[:2], heads, -1, y.shape[3]).sum(3)


def _flat(x):
    """[B, G, ...] as [B G, ...]."""
    return x.reshape(-1, *x.shape[2:])
