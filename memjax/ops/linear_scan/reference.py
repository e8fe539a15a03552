"""The linear scan by its definition: one step a token."""

import jax
import jax.numpy as jnp


def linear_scan(decay, x, state, first, reverse):
    """Arguments as in the public function, checked, filled in and of one dtype: decay [B,T,D] or [1,1,D]; x [B,T,D];
    state [B,D]; first None or [B,T], True where a token begins with an empty state. Returns h [B,T,D] and last."""
    if first is None:
        first = jnp.zeros(x.shape[:2], bool)

    def step(h, token):
        decay, x, first = token
        h = decay * jnp.where(first[:, None], 0, h) + x
        return h, h

    by_time = [jnp.moveaxis(a, 1, 0) for a in (jnp.broadcast_to(decay, x.shape), x, first)]
    last, h = jax.lax.scan(step, state, tuple(by_time), reverse=reverse)
    return jnp.moveaxis(h, 0, 1), last
