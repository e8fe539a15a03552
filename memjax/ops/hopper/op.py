"""Both ops on the kernels: what stands before, between and behind them."""

from functools import partial

import jax
import jax.numpy as jnp

from memjax.ops.gated_delta_rule import xla
from memjax.ops.hopper import frame, gradients, inside, sequence
from memjax.ops.hopper.inside import cut, paste, problem, products, square, widen
from memjax.ops.hopper.tiles import operand, whole


@partial(jax.jit, static_argnames=("scale", "interpret"))  # traced once, not in every layer and program
def forward(q, k, v, log_decay, beta, state, index, *, scale, interpret):
    """(o, final, inverse [N, B, G, C, C]); beta None: linear attention, and the inverse None."""
    x = problem(q, k, v, log_decay, beta, index, scale)
    chunks, inverse = inside.chunks(x, interpret=interpret)
    o, final = sequence.forward(chunks, operand(x.v), square(state), interpret=interpret)
    return o[:, : v.shape[1], :, : v.shape[3]], final[:, :, : k.shape[3], : v.shape[3]], inverse


@partial(jax.jit, static_argnames=("scale", "interpret"))
def backward(q, k, v, log_decay, beta, state, index, inverse, d_o, d_final, *, scale, interpret):
    """Gradients of q, k, v, log_decay, beta and state, None for what is None."""
    x = problem(q, k, v, log_decay, beta, index, scale)
    delta, run = beta is not None, {"interpret": interpret}
    chunks, _ = inside.chunks(x, inverse, **run)
    v_parts, d_o = operand(x.v), operand(widen(d_o.astype(v.dtype)))
    states, *saved = sequence.rebuild(chunks, v_parts, square(state), **run)
    d_states, d_r, d_state = sequence.reverse(chunks, d_o, square(d_final), **run)
    error, written = saved or (None, v_parts)
    values = (d_o, d_r, written, error)
    outer = partial(gradients.outer, *values[:3], states, d_states, delta=delta, **run)
    of_chunks = _by_channel if x.by_channel else _by_head
    d_q, d_k, d_log_decay, d_beta = of_chunks(x, chunks, values, outer, **run)
    d_v = whole(d_r)
    if x.beta is not None:
        d_v *= x.beta[..., None]
    crop = lambda y, like: None if like is None else y[tuple(slice(0, n) for n in like.shape)].astype(like.dtype)
    found, given = (d_q, d_k, d_v, d_log_decay, d_beta, d_state), (q, k, v, log_decay, beta, state)
    return tuple(crop(y, like) for y, like in zip(found, given, strict=True))


def _by_head(x, chunks, values, outer, *, interpret):
    """Gradients of q, k, log_decay and beta, under one gate a head or none."""
    batch, groups = x.v.shape[0], x.v.shape[2]
    found = inside.gradients(x, chunks, values, interpret=interpret)
    finish = gradients.Finish(chunks.q, chunks.k_in, found["m_q"], found.get("m_k"), chunks.rows)
    d_q, d_k, d_rows, d_keep = outer(finish)
    d_beta = None if x.beta is None else paste(_flat(found["d_beta"]), batch)
    by_head = lambda y: y if groups == x.k.shape[2] else y.reshape(*y.shape[:2], x.k.shape[2], -1, y.shape[3]).sum(3)
    d_q, d_k = by_head(d_q), by_head(d_k)
    if x.log_decay is None:
        return d_q, d_k, None, d_beta
    d_rows, d_whole = _flat(d_rows).sum(2), _flat(d_keep).sum(-1)
    d_start = x.scale * d_rows[:, :, frame.QUERY] + d_rows[:, :, frame.READ]
    _, pull = jax.vjp(partial(inside.borders, x), x.log_decay)
    (d_log_decay,) = pull((d_start, d_rows[:, :, frame.WRITE], d_whole))
    return d_q, d_k, d_log_decay + paste(_flat(found["d_gate"]), batch), d_beta


def _by_channel(x, chunks, values, outer, *, interpret):
    """The same under a gate a channel, by the derivatives of `products`."""
    batch, groups = x.v.shape[0], x.v.shape[2]
    d_p, *more = (_flat(y) for y in gradients.inner(*values, interpret=interpret))
    d_q_in, d_k_out, *d_error, d_keep = (_flat(y) for y in outer(None))
    zero = jnp.zeros_like
    d_chunks = xla.Chunks(
        a=-more[0] if more else zero(d_p),
        p=d_p,
        k_in=-cut(x.beta, groups)[..., None] * d_error[0] if more else zero(d_k_out),
        q_in=d_q_in,
        k_out=d_k_out,
        keep=d_keep[..., None],
    )
    run = lambda q, k, log_decay, beta: products(q, k, log_decay, beta, x.masks, x.scale, groups)
    _, pull = jax.vjp(run, x.q, x.k, x.log_decay, x.beta)
    d_q, d_k, d_log_decay, d_beta = pull(d_chunks)
    return d_q, d_k, d_log_decay, d_beta + paste(more[1], batch) if more else None


def _flat(x):
    """[B, G, ...] as [B G, ...]."""
    return x.reshape(-1, *x.shape[2:])
