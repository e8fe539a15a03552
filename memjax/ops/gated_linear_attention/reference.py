"""Gated linear attention by its definition: one step a token."""

import jax
import jax.numpy as jnp

from memjax.ops import segments


def gated_linear_attention(q, k, v, log_decay, scale, initial_state, docs):
    """Arguments as in the public function, checked and filled in: q, k [B,T,H,K]; v [B,T,G,V]; log_decay None,
    [B,T,G] or [B,T,G,K]; initial_state [B,G,K,V]; docs `segments.Documents` or None."""
    batch, time, heads, _ = q.shape
    groups = v.shape[2] // heads
    q, k, v = (x.astype(initial_state.dtype) for x in (q, k, v))
    decay = jnp.ones((batch, time, v.shape[2], 1), q.dtype)
    if log_decay is not None:
        decay = jnp.exp(log_decay if log_decay.ndim == 4 else log_decay[..., None])
    first = jnp.zeros((batch, time), bool)
    if docs is not None:
        first = segments.begins(docs)

    def step(state, token):
        q, k, v, decay, first = token
        q, k = (jnp.repeat(x, groups, axis=1) for x in (q, k))
        state = jnp.where(first[:, None, None, None], 0, state)
        state = decay[..., None] * state + jnp.einsum("bgk,bgv->bgkv", k, v, precision="highest")
        return state, jnp.einsum("bgkv,bgk->bgv", state, q * scale, precision="highest")

    by_time = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), (q, k, v, decay, first))
    final, out = jax.lax.scan(step, initial_state, by_time)
    return jnp.moveaxis(out, 0, 1), final
