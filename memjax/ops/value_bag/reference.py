"""The value bag by its definition: all rows are gathered, then summed."""

import jax.numpy as jnp


def value_bag(values, indices, weights):
    """values [M, V]; indices [T, J] in 0 .. M, where M reads nothing; weights [T, J]. Returns [T, V]."""
    wide = jnp.promote_types(jnp.promote_types(values.dtype, weights.dtype), jnp.float32)
    rows = values.at[indices].get(mode="fill", fill_value=0).astype(wide)
    return jnp.einsum("tj,tjv->tv", weights.astype(wide), rows, precision="highest").astype(values.dtype)
