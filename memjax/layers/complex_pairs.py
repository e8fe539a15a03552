"""Complex numbers kept as pairs of float32: optimisers, checkpoints, shardings and states know no complex numbers."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact


def join_pair(pair: Float[Array, "*shape parts"]) -> Inexact[Array, "*shape"]:
    """From [..., 2] (real, imaginary) to complex, from [..., 1] to real numbers."""
    return pair[..., 0] if pair.shape[-1] == 1 else jax.lax.complex(pair[..., 0], pair[..., 1])


def split_pair(x: Inexact[Array, "*shape"]) -> Float[Array, "*shape parts"]:
    """The inverse of `join_pair`."""
    return jnp.stack([x.real, x.imag], axis=-1) if jnp.iscomplexobj(x) else x[..., None]
