"""Both ops on the kernels: what stands before, between and behind them."""

from functools import partial

import jax
import jax.numpy as jnp

from memjax.ops.gated_delta_rule import xla
from memjax.ops.hopper import gradients, inside, sequence
from memjax.ops.hopper.inside import cut, paste, problem, products, square, widen
from memjax.ops.hopper.tiles import whole


@partial(jax.jit, static_argnames=("scale", "interpret"))  # traced once, not in every layer and program
def forward(q, k, v, log_decay, beta, state, index, *, scale, interpret):
    """(o, final, inverse [B, G, N, C, C]); beta None: linear attention, and the inverse None."""
    x = problem(q, k, v, log_decay, beta, index, scale)
    chunks, inverse = inside.chunks(x)
    o, final = sequence.forward(chunks, x.v, square(state), interpret=interpret)
    if inverse is not None:
        inverse = inverse.reshape(*chunks.rows.shape[:3], *inverse.shape[-2:])
    return o[:, : v.shape[1], :, : v.shape[3]], final[:, :, : k.shape[3], : v.shape[3]], inverse


@partial(jax.jit, static_argnames=("scale", "interpret"))
def backward(q, k, v, log_decay, beta, state, index, inverse, d_o, d_final, *, scale, interpret):
    """Gradients of q, k, v, log_decay, beta and state, None for what is None."""
    x = problem(q, k, v, log_decay, beta, index, scale)
    groups, batch, delta = v.shape[2], v.shape[0], beta is not None
    chunks, _ = inside.chunks(x, None if inverse is None else inverse.reshape(-1, *inverse.shape[2:]))
    d_o, run = widen(d_o.astype(jnp.bfloat16)), {"interpret": interpret}
    states, *saved = sequence.rebuild(chunks, x.v, square(state), **run)
    d_states, d_r, d_state = sequence.reverse(chunks, d_o, square(d_final), **run)
    error, written = saved if delta else (None, x.v[None])
    d_p, *d_inner = gradients.inner(d_o[None], d_r, written, error, **run)
    d_q_in, d_k_out, *d_outer, d_keep = gradients.outer(d_o[None], d_r, written, states, d_states, delta=delta, **run)
    flat = lambda y: y.reshape(-1, *y.shape[2:])
    d_values = paste(cut(whole(d_r), groups) * cut(x.beta, groups)[..., None], batch) if delta else whole(d_r)
    zero = jnp.zeros_like
    d_chunks = xla.Chunks(
        a=-flat(d_inner[0]) if delta else zero(flat(d_p)),
        p=flat(d_p),
        k_in=-cut(x.beta, groups)[..., None] * flat(d_outer[0]) if delta else zero(flat(d_k_out)),
        q_in=flat(d_q_in),
        k_out=flat(d_k_out),
        keep=flat(d_keep)[..., None],
    )
    differentiable = (x.q, x.k, x.log_decay, x.beta)
    forms, pull = jax.vjp(lambda *y: products(*y, x.masks, x.scale, groups), *differentiable)
    keep = d_chunks.keep if forms.keep.shape[-2] > 1 else d_chunks.keep.sum(-2, keepdims=True)
    d_q, d_k, d_log_decay, d_beta = pull(d_chunks._replace(keep=keep))
    if delta:
        d_beta += paste(flat(d_inner[1]), batch)
    crop = lambda y, like: None if like is None else y[tuple(slice(0, n) for n in like.shape)].astype(like.dtype)
    found, given = (d_q, d_k, d_values, d_log_decay, d_beta, d_state), (q, k, v, log_decay, beta, state)
    return tuple(crop(y, like) for y, like in zip(found, given, strict=True))
