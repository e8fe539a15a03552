"""A query and its nearest product keys: how memory layers choose the rows they read (arXiv 1907.05242, section 3.1)."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from memjax.layers.linear import Linear
from memjax.layers.norms import RMSNorm, rms_normalize
from memjax.ops import product_key_topk


class ProductKeys(nnx.Module):
    """[..., D] -> scores [..., H, k] float32 and rows [..., H, k] of N * N, best first, for each of H heads.

    keys [H, 2, N, K/2] are drawn from +- (K/2) ** -0.5. `query_norm` is an RMSNorm of each half of a head's query, in
    the place of the paper's batch norm, through which tokens would see each other; `key_norm` normalises the keys too,
    each to the length 1 times a learned scale.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        key_dim: int,
        subkeys: int,
        topk: int,
        query_norm: bool,
        key_norm: bool = False,
        rngs: nnx.Rngs,
    ):
        if heads < 1 or key_dim < 2 or key_dim % 2 or not 1 <= topk <= subkeys**2 < 2**31:
            raise ValueError(
                f"product keys: heads={heads} must be positive, key_dim={key_dim} even, and topk={topk} at most the "
                f"rows, subkeys={subkeys} squared (fewer than 2**31)"
            )
        half = key_dim // 2
        self.heads, self.topk = heads, topk
        self.query = Linear(width, heads * key_dim, rngs=rngs)
        bound = half**-0.5
        shape = (heads, 2, subkeys, half)
        self.keys = nnx.Param(jax.random.uniform(rngs.params(), shape, jnp.float32, -bound, bound))
        self.query_norm = RMSNorm(half) if query_norm else None
        self.key_scale = nnx.Param(jnp.ones((half,), jnp.float32)) if key_norm else None

    def __call__(self, x: Float[Array, "*lead D"]) -> tuple[Float[Array, "*lead H k"], Int[Array, "*lead H k"]]:
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))  # a rounded query finds other rows
        query = self.query(x).reshape(*x.shape[:-1], self.heads, 2, -1)
        query = query if self.query_norm is None else self.query_norm(query)
        keys = self.keys[...]
        if self.key_scale is not None:
            keys = rms_normalize(keys) * (keys.shape[-1] ** -0.5 * self.key_scale[...])[None, None, None]
        return product_key_topk(query, keys, self.topk)

    def flops_per_token(self) -> float:
        """Of the scores; the projection is counted with the other matrices."""
        return 2.0 * self.keys.size
