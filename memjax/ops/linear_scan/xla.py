"""The linear scan for XLA on any platform: in blocks, one step a token, or associatively, in log2(T) passes.

The backward is the same scan in the other direction. With g_t the whole cotangent of h_t,

    g_t = dh_t + decay_{t+1} g_{t+1}      dx_t = g_t      ddecay_t = g_t h_{t-1}

where t runs the way the scan does. Nothing is conjugated: JAX's cotangents of complex numbers are those of the
holomorphic derivative.

The blocked form sums each block from zero and adds the state that the block began with, times the decays since:

    local <- decay local + x      through <- decay through      h = local + through start

In float32, 65536 equal numbers summed one by one are wrong by 3e-4, and by 8e-6 in blocks of 64. Rows are read and
written in place, [B, T, D] as they lie, so that nothing is transposed and no step is stored but h and the gradients.
"""

import jax
import jax.numpy as jnp

from memjax.ops.linear_scan import marks as marking
from memjax.ops.linear_scan.tiling import Tiling


def forward(decay, x, state, marks, *, reverse: bool, tiling: Tiling):
    """decay [B,T,D] or [1,1,D]; x [B,T,D], real ones also narrower than decay; state [B,D]; marks None or [B,T].
    Returns h [B,T,D] in the dtype of x and the last state in that of decay."""
    decay, wide = marking.apply(decay, x.astype(decay.dtype), marks)
    form = _blocked_forward if tiling.form == "blocked" else _associative_forward
    return form(decay, wide, state, x.dtype, reverse=reverse, block=tiling.block)


def backward(decay, h, state, marks, d_h, d_last, *, reverse: bool, tiling: Tiling):
    """From what the forward had and gave and the cotangents of that, the gradients of decay, x and state."""
    full, _ = marking.apply(decay, decay, marks)
    wide, d_wide = h.astype(decay.dtype), d_h.astype(decay.dtype)
    form = _blocked_backward if tiling.form == "blocked" else _associative_backward
    d_decay, d_x, d_state = form(full, wide, state, d_wide, d_last, reverse=reverse, block=tiling.block)
    d_decay, d_x = marking.pull(d_decay, d_x, marks)
    return _collect(d_decay, decay), d_x.astype(h.dtype), d_state


def _blocked_forward(decay, x, state, narrow, *, reverse, block):
    time = x.shape[1]

    def step(i, carry):
        h, *sums, out = carry
        t = time - 1 - i if reverse else i
        start, local, through = _begin(i % block == 0, h, *sums)
        local, through = _row(decay, t) * local + _row(x, t), _row(decay, t) * through
        h = local + through * start
        return h, start, local, through, _put(out, h.astype(narrow), t)

    carry = (state, state, state, state, jnp.zeros_like(x, narrow))
    last, *_, out = jax.lax.fori_loop(0, time, step, carry)
    return out, last


def _blocked_backward(decay, h, state, d_h, d_last, *, reverse, block):
    time, constant = h.shape[1], decay.shape[1] == 1

    def step(i, carry):
        d_state, *sums, d_decay_sum, d_decay, d_x = carry
        t, before = (i, i + 1) if reverse else (time - 1 - i, time - 2 - i)
        first = i % block == 0
        start, local, through = _begin(first, d_state, *sums)
        local = local + _row(d_h, t)
        g = local + through * start
        d_here = g * jnp.where(i == time - 1, state, _row(h, jnp.clip(before, 0, time - 1)))
        d_decay_sum = jnp.where(first, 0, d_decay_sum) + d_here
        # of a constant decay only the sum of each block is kept
        d_decay = _put(d_decay, d_decay_sum, i // block) if constant else _put(d_decay, d_here, t)
        now = _row(decay, t)
        return now * g, start, now * local, now * through, d_decay_sum, d_decay, _put(d_x, g, t)

    d_decay = jnp.zeros((h.shape[0], -(-time // block) if constant else time, h.shape[2]), h.dtype)
    carry = (*[d_last] * 5, d_decay, jnp.zeros_like(h))
    d_state, *_, d_decay, d_x = jax.lax.fori_loop(0, time, step, carry)
    return d_decay, d_x, d_state


def _collect(d_decay, decay):
    """A decay of [1, 1, D] gets the sum over rows and tokens."""
    return d_decay.sum((0, 1), keepdims=True) if decay.shape[:2] == (1, 1) else d_decay


def _begin(first, state, start, local, through):
    """At the first token of a block: begin from `state`, with nothing summed and nothing decayed."""
    return jnp.where(first, state, start), jnp.where(first, 0, local), jnp.where(first, 1, through)


def _row(x, t):
    """Token t of [B, T, D]; of [1, 1, D] always the only one."""
    return x[:, 0] if x.shape[1] == 1 else jax.lax.dynamic_index_in_dim(x, t, axis=1, keepdims=False)


def _put(x, row, t):
    return jax.lax.dynamic_update_index_in_dim(x, row, t, axis=1)


def _associative_forward(decay, x, state, narrow, *, reverse, block):
    del block
    decay = jnp.broadcast_to(decay, x.shape)
    begin, end = (-1, 0) if reverse else (0, -1)
    x = x.at[:, begin].add(decay[:, begin] * state)
    h = jax.lax.associative_scan(_join, (decay, x), reverse=reverse, axis=1)[1]
    return h.astype(narrow), h[:, end]


def _associative_backward(decay, h, state, d_h, d_last, *, reverse, block):
    del block
    full = jnp.broadcast_to(decay, h.shape)
    begin, end = (-1, 0) if reverse else (0, -1)
    d_h = d_h.at[:, end].add(d_last)
    after = _shift(full, jnp.ones_like(d_last), not reverse)
    g = jax.lax.associative_scan(_join, (after, d_h), reverse=not reverse, axis=1)[1]
    return g * _shift(h, state, reverse), g, full[:, begin] * g[:, begin]


def _join(early, late):
    return late[0] * early[0], late[0] * early[1] + late[1]


def _shift(x, row, back):
    """Every token moved one place to the right, or back to the left, with `row` [B, D] in the place left free."""
    row = row[:, None]
    return jnp.concatenate([x[:, 1:], row] if back else [row, x[:, :-1]], axis=1)
