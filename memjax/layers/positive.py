"""The positive activation of minGRU and minLSTM (Feng et al., arXiv 2410.01201, appendix B)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def positive(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x + 1/2 where x >= 0, sigmoid(x) below: positive and continuous, never steeper than 1."""
    return jnp.where(x >= 0, x + 0.5, jax.nn.sigmoid(x))
