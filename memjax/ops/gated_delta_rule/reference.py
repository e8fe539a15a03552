"""The gated delta rule by its definition: one step a token, in the order of the paper (arXiv 2412.06464, eq. 10)."""

import jax
import jax.numpy as jnp

from memjax.ops import segments


def gated_delta_rule(q, k, v, log_decay, beta, scale, initial_state, docs):
    """Arguments as in the public function, checked and filled in: q, k [B,T,H,K]; v [B,T,G,V]; log_decay None,
    [B,T,G] or [B,T,G,K]; beta [B,T,G]; initial_state [B,G,K,V]; docs `segments.Documents` or None."""
    groups = v.shape[2] // q.shape[2]
    q, k, v = (x.astype(initial_state.dtype) for x in (q, k, v))
    q, k = (jnp.repeat(x, groups, axis=2) for x in (q * scale, k))
    decay = jnp.ones((*beta.shape, 1), q.dtype)
    if log_decay is not None:
        decay = jnp.exp(log_decay if log_decay.ndim == 4 else log_decay[..., None])
    first = jnp.zeros(beta.shape[:2], bool)
    if docs is not None:
        first = segments.begins(docs)

    def step(state, token):
        q, k, v, decay, beta, first = token
        state = jnp.where(first[:, None, None, None], 0, state)
        state = decay[..., None] * state
        error = v - jnp.einsum("bgkv,bgk->bgv", state, k, precision="highest")
        state = state + jnp.einsum("bgk,bgv->bgkv", k, beta[..., None] * error, precision="highest")
        return state, jnp.einsum("bgkv,bgk->bgv", state, q, precision="highest")

    by_time = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), (q, k, v, decay, beta, first))
    final, out = jax.lax.scan(step, initial_state, by_time)
    return jnp.moveaxis(out, 0, 1), final
