"""Both ops on the kernels: what stands before, between and behind them."""

from functools import partial

import jax
import jax.numpy as jnp

from memjax.ops.gated_delta_rule import xla
from memjax.ops.hopper import inside, sequence
from memjax.ops.hopper.inside import cut, paste, problem, products, square, widen
from memjax.ops.hopper.tiles import whole

_dot = partial(jnp.einsum, precision="highest")


def forward(q, k, v, log_decay, beta, state, index, *, scale, interpret):
    """(o, final, inverse [B, G, N, C, C]); beta None: linear attention, and the inverse None."""
    x = problem(q, k, v, log_decay, beta, index, scale)
    chunks, inverse = inside.chunks(x)
    o, final = sequence.forward(chunks, x.v, square(state), interpret=interpret)
    if inverse is not None:
        inverse = inverse.reshape(*chunks.rows.shape[:3], *inverse.shape[-2:])
    return o[:, : v.shape[1], :, : v.shape[3]], final[:, :, : k.shape[3], : v.shape[3]], inverse


def backward(q, k, v, log_decay, beta, state, index, inverse, d_o, d_final, *, scale, interpret):
    """Gradients of q, k, v, log_decay, beta and state, None for what is None."""
    x = problem(q, k, v, log_decay, beta, index, scale)
    groups, batch, keys = v.shape[2], v.shape[0], k.shape[3]
    given = None if inverse is None else inverse.reshape(-1, *inverse.shape[2:])
    chunks, _ = inside.chunks(x, given)
    d_o = widen(d_o.astype(jnp.bfloat16))
    run = dict(interpret=interpret)
    states, *saved = sequence.rebuild(chunks, x.v, square(state), **run)
    d_states, d_written, d_state = sequence.reverse(chunks, d_o, square(d_final), **run)
    flat = lambda y: whole(y).reshape(-1, *y.shape[3:])
    rows = lambda y: cut(whole(y), groups)
    states, d_states = flat(states), flat(d_states)
    d_o, d_written = cut(d_o.astype(jnp.float32), groups), rows(d_written)
    error, written = map(rows, saved) if saved else (None, cut(x.v.astype(jnp.float32), groups))
    d_values = d_written if beta is None else d_written * cut(x.beta, groups)[..., None]
    d_chunks = _inside(states, d_states, d_o, written, d_written, d_values)
    if beta is None:
        d_chunks = d_chunks._replace(a=jnp.zeros_like(d_chunks.a), k_in=jnp.zeros_like(d_chunks.k_in))
    differentiable = (x.q, x.k, x.log_decay, x.beta)
    forms, pull = jax.vjp(lambda *y: products(*y, x.masks, x.scale, groups), *differentiable)
    keep = d_chunks.keep if forms.keep.shape[-2] > 1 else d_chunks.keep.sum(-2, keepdims=True)
    d_q, d_k, d_log_decay, d_beta = pull(d_chunks._replace(keep=keep))
    if beta is not None:
        d_beta = (d_beta + paste((d_written * error).sum(-1), batch))[:, : v.shape[1]]
    crop = lambda y, like: None if like is None else y[tuple(slice(0, n) for n in like.shape)].astype(like.dtype)
    d_v = crop(paste(d_values, batch), v)
    return crop(d_q, q), crop(d_k, k), d_v, crop(d_log_decay, log_decay), d_beta, crop(d_state, state)


def _inside(states, d_states, d_o, written, d_written, d_values):
    """Cotangents of what `products` gives, from [B G, N, ...]."""
    outer = partial(_dot, "mniv,mnjv->mnij")
    by_state = lambda x, s: _dot("mncv,mnkv->mnck", x, s)
    return xla.Chunks(
        a=-outer(d_written, written),
        p=outer(d_o, written),
        k_in=-by_state(d_values, states),
        q_in=by_state(d_o, states),
        k_out=by_state(written, d_states),
        keep=(d_states * states).sum(-1, keepdims=True),
    )
