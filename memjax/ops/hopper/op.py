"""Both ops on the kernels: what stands before, between and behind them."""

from functools import partial

import jax

from memjax.ops.hopper import channels, frame, gradients, inside, sequence
from memjax.ops.hopper.inside import paste, problem, square, widen
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
    values = (d_o, d_r, written)
    found = inside.gradients(x, chunks.rows, *values, error, **run)
    outer = partial(gradients.outer, *values, states, d_states, delta=delta, **run)
    of_chunks = _by_channel if x.by_channel else _by_head
    d_q, d_k, d_log_decay, d_beta = of_chunks(x, chunks, found, outer)
    d_v = whole(d_r)
    if x.beta is not None:
        d_v *= x.beta[..., None]
    crop = lambda y, like: None if like is None else y[tuple(slice(0, n) for n in like.shape)].astype(like.dtype)
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
