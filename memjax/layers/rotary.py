"""Rotary position embedding (Su et al., RoFormer, arXiv 2104.09864, equation 34), halves rotated together."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def rotary(
    x: Float[Array, "B T H K"], positions: Int[Array, "B T"], *, base: float = 10_000.0
) -> Float[Array, "B T H K"]:
    """Rotates the pairs (x[i], x[i + K/2]) by positions * base ** (-2 i / K) radians, in float32.

    Args:
        x: queries or keys, K even.
        positions: position of each token in its document.
        base: the longest wavelength is 2 pi base tokens.
    """
    half = x.shape[-1] // 2
    frequencies = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = positions.astype(jnp.float32)[..., None, None] * frequencies[None, None, None]
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
