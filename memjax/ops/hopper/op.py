"""Both ops on the kernels: what stands before, between and behind them."""

from functools import partial

import jax
import jax.numpy as jnp

from memjax.ops.hopper import channels, frame, gradients, inside, pieces, sequence
from memjax.ops.hopper.inside import paste, problem, square, widen
from memjax.ops.hopper.tiles import operand, whole


def forward(q, k, v, log_decay, beta, state, index, *, scale, interpret):
    """(o, final, inverse [N, B, G, C, C]); beta None: linear attention, and the inverse None."""
    run = {"scale": scale, "interpret": interpret}
    if (n := _pieces(q, k, v, log_decay, beta)) == 1:
        return _forward(q, k, v, log_decay, beta, state, index, wide=v.dtype == jnp.float32, **run)
    q_, k_, v_, log_decay, state = pieces.lay_out(q, k, v, log_decay, state, n=n)
    o, final, _ = _forward(q_, k_, v_, log_decay, None, state, index, wide=True, **run)
    heads = q.shape[2]
    return pieces.summed(o, heads, n).astype(v.dtype), pieces.whole(final, heads, n, k.shape[3]), None


def backward(q, k, v, log_decay, beta, state, index, inverse, d_o, d_final, *, scale, interpret):
    """Gradients of q, k, v, log_decay, beta and state, None for what is None."""
    given, run = (q, k, v, log_decay, state), {"scale": scale, "interpret": interpret}
    if (n := _pieces(q, k, v, log_decay, beta)) == 1:
        return _backward(q, k, v, log_decay, beta, state, index, inverse, d_o, d_final, wide=False, **run)
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), given)
    _, pull = jax.vjp(partial(pieces.lay_out, n=n), *wide)
    d_o, d_final = pieces.shared(d_o, q.shape[2], n), pieces.states(d_final, q.shape[2], n)
    q, k, v, log_decay, state = pieces.lay_out(*given, n=n)
    found = _backward(q, k, v, log_decay, None, state, index, None, d_o, d_final, wide=True, **run)
    d_q, d_k, d_v, d_log_decay, d_state = jax.tree.map(
        lambda d, x: d.astype(x.dtype), pull((*found[:4], found[5])), given
    )
    return d_q, d_k, d_v, d_log_decay, None, d_state


def _pieces(q, k, v, log_decay, beta) -> int:
    by_channel = log_decay is not None and log_decay.ndim == k.ndim
    return pieces.count(q, k, v, by_channel=by_channel, delta=beta is not None) or 1  # what fits in none was refused


@partial(jax.jit, static_argnames=("scale", "interpret", "wide"))  # traced once, not in every layer and program
def _forward(q, k, v, log_decay, beta, state, index, *, scale, interpret, wide):
    """`forward` of one piece; o in float32 if `wide`, else in bfloat16."""
    x = problem(q, k, v, log_decay, beta, index, scale)
    chunks, inverse = inside.chunks(x, interpret=interpret)
    o, final = sequence.forward(chunks, operand(x.v), square(state), wide=wide, interpret=interpret)
    return o[:, : v.shape[1], :, : v.shape[3]], final[:, :, : k.shape[3], : v.shape[3]], inverse


@partial(jax.jit, static_argnames=("scale", "interpret", "wide"))
def _backward(q, k, v, log_decay, beta, state, index, inverse, d_o, d_final, *, scale, interpret, wide):
    """`backward` of one piece; all in float32 if `wide`, else in the dtypes of the inputs."""
    x = problem(q, k, v, log_decay, beta, index, scale)
    delta, run = beta is not None, {"interpret": interpret}
    chunks, _ = inside.chunks(x, inverse, **run)
    v_parts, d_o = operand(x.v), operand(widen(d_o.astype(v.dtype)))
    states, *saved = sequence.rebuild(chunks, v_parts, square(state), **run)
    d_states, d_r, d_state = sequence.reverse(chunks, d_o, square(d_final), **run)
    error, written = saved or (None, v_parts)
    values = (d_o, d_r, written)
    found = inside.gradients(x, chunks.rows, *values, error, **run)
    outer = partial(gradients.outer, *values, states, d_states, delta=delta, **run)
    of_chunks = _by_channel if x.by_channel else _by_head
    d_q, d_k, d_log_decay, d_beta = of_chunks(x, chunks, found, outer)
    d_v = whole(d_r)
    if x.beta is not None:
        d_v *= x.beta[..., None]
    narrow = lambda y, like: y.astype(jnp.float32 if wide else like.dtype)
    crop = lambda y, like: None if like is None else narrow(y[tuple(slice(0, n) for n in like.shape)], like)
    found, given = (d_q, d_k, d_v, d_log_decay, d_beta, d_state), (q, k, v, log_decay, beta, state)
    return tuple(crop(y, like) for y, like in zip(found, given, strict=True))


def _by_head(x, chunks, found, outer):
    """Gradients of q, k, log_decay and beta, under one gate a head or none; `found` from `pairs.gradients`."""
    batch = x.v.shape[0]
    finish = gradients.Finish(chunks.q, chunks.k_in, found["m_q"], found.get("m_k"), chunks.rows)
    d_q, d_k, d_rows, d_keep = outer(finish)
    d_q, d_k = _over_heads(x, d_q), _over_heads(x, d_k)
    d_beta = None if x.beta is None else paste(_flat(found["d_beta"]), batch)
    if x.log_decay is None:
        return d_q, d_k, None, d_beta
    d_rows, d_whole = _flat(d_rows).sum(2), _flat(d_keep).sum(-1)
    d_start = x.scale * d_rows[:, :, frame.QUERY] + d_rows[:, :, frame.READ]
    _, pull = jax.vjp(partial(inside.borders, x), x.log_decay)
    (d_log_decay,) = pull((d_start, d_rows[:, :, frame.WRITE], d_whole))
    return d_q, d_k, d_log_decay + paste(_flat(found["d_gate"]), batch), d_beta


def _by_channel(x, chunks, found, outer):
    """The same under a gate a channel."""
    given = (operand(x.q), operand(x.k), x.log_decay, found["m_q"], found.get("m_k"), chunks.rows, chunks.keep)
    d_q, d_k, d_log_decay, *through_a = outer(channels.Finish(*given))
    d_beta = None if x.beta is None else paste(_flat(found["d_beta"] + through_a[0].sum(3)), x.v.shape[0])
    return _over_heads(x, d_q), _over_heads(x, d_k), d_log_decay, d_beta


def _over_heads(x, y):
    """[B, T, G, K] summed over the value heads that read one key head."""
    heads = x.k.shape[2]
    return y if y.shape[2] == heads else y.reshape(*y.shape[:2], heads, -1, y.shape[3]).sum(3)


def _flat(x):
    """[B, G, ...] as [B G, ...]."""
    return x.reshape(-1, *x.shape[2:])
