"""The value bag and the dots with its rows by their definitions: all rows are gathered at once."""

import jax.numpy as jnp


def value_bag(values, indices, weights, dtype):
    """values [M, V]; indices [T, J] in 0 .. M, where M reads nothing; weights [T, J]. Returns [T, V] in `dtype`."""
    weights, rows = _wide(weights, _rows(values, indices))
    return jnp.einsum("tj,tjv->tv", weights, rows, precision="highest").astype(dtype)


def row_dots(values, indices, x):
    """values and indices as above; x [T, V]. Returns [T, J], at least float32."""
    rows, x = _wide(_rows(values, indices), x)
    return jnp.einsum("tjv,tv->tj", rows, x, precision="highest")


def _rows(values, indices):
    return values.at[indices].get(mode="fill", fill_value=0)


def _wide(*arrays):
    wide = jnp.promote_types(jnp.result_type(*(x.dtype for x in arrays)), jnp.float32)
    return [x.astype(wide) for x in arrays]
