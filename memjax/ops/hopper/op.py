"""Both ops on the kernels: what stands before, between and behind them."""

from functools import partial

import jax
import jax.numpy as jnp

from memjax.ops.gated_delta_rule import xla
from memjax.ops.hopper import frame, gradients, inside, sequence
from memjax.ops.hopper.inside import cut, paste, problem, products, square, widen
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
    d_a, d_beta_outside = (-more[0], paste(more[1], v.shape[0])) if more else (None, None)
    outer = partial(gradients.outer, d_o[None], d_r, written, states, d_states, delta=delta, **run)
    of_chunks = _by_channel if x.by_channel else _by_head
    d_q, d_k, d_log_decay, d_beta = of_chunks(x, chunks, d_p, d_a, outer)
    d_v = whole(d_r)
    if x.beta is not None:
        d_beta += d_beta_outside
        d_v *= x.beta[..., None]
    crop = lambda y, like: None if like is None else y[tuple(slice(0, n) for n in like.shape)].astype(like.dtype)
    found, given = (d_q, d_k, d_v, d_log_decay, d_beta, d_state), (q, k, v, log_decay, beta, state)
    return tuple(crop(y, like) for y, like in zip(found, given, strict=True))


def _by_head(x, chunks, d_p, d_a, outer):
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
    by_head = lambda y: y if groups == x.k.shape[2] else y.reshape(*y.shape[:2], x.k.shape[2], -1, y.shape[3]).sum(3)
    return by_head(d_q), by_head(d_k), d_log_decay, d_beta


def _by_channel(x, chunks, d_p, d_a, outer):
    """The same under a gate a channel, by the derivatives of `products`."""
    groups = x.v.shape[2]
    d_q_in, d_k_out, *d_error, d_keep = (_flat(y) for y in outer(None))
    zero = jnp.zeros_like
    d_chunks = xla.Chunks(
        a=zero(d_p) if d_a is None else d_a,
        p=d_p,
        k_in=zero(d_k_out) if d_a is None else -cut(x.beta, groups)[..., None] * d_error[0],
        q_in=d_q_in,
        k_out=d_k_out,
        keep=d_keep[..., None],
    )
    run = lambda q, k, log_decay, beta: products(q, k, log_decay, beta, x.masks, x.scale, groups)
    _, pull = jax.vjp(run, x.q, x.k, x.log_decay, x.beta)
    return pull(d_chunks)


def _flat(x):
    """[B, G, ...] as [B G, ...]."""
    return x.reshape(-1, *x.shape[2:])
