"""Normalisations, computed in float32 whatever the input dtype."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


def rms_normalize(x: Float[Array, "... D"], epsilon: float = 1e-6) -> Float[Array, "... D"]:
    """x / sqrt(mean(x^2) + epsilon) over the last axis, in float32 or wider (Zhang and Sennrich, arXiv 1910.07467)."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + epsilon)


def l2_normalize(x: Float[Array, "... D"], epsilon: float = 1e-6) -> Float[Array, "... D"]:
    """x / sqrt(sum(x^2) + epsilon) over the last axis; smooth at x = 0 (padding, dead keys).

    Computed in float32 or wider, in the input's dtype: the recurrences that read it take bfloat16 as it is.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (wide * jax.lax.rsqrt(jnp.sum(wide * wide, axis=-1, keepdims=True) + epsilon)).astype(x.dtype)


class RMSNorm(nnx.Module):
    """scale * x / rms(x) over the last axis, scale [size] beginning at 1; the output has the input's dtype."""

    def __init__(self, size: int, *, epsilon: float = 1e-6):
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones((size,), jnp.float32))

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        return (rms_normalize(x, self.epsilon) * self.scale[...].reshape(*[1] * (x.ndim - 1), -1)).astype(x.dtype)
