"""What the ops of a table ask of their arguments."""

import jax.numpy as jnp

from memjax.ops import implementations


def check(op, indices, rows, expected):
    """Raises ValueError for impossible `indices` [..., J], table of `rows` rows, or shapes (`expected`: see there)."""
    check_rows(op, rows)
    if not indices.ndim or not indices.shape[-1]:
        raise ValueError(f"{op}: indices has shape {indices.shape}, expected [..., J] with J >= 1")
    implementations.check_shapes(op, expected)


def check_rows(op, rows):
    """Raises ValueError unless int32 can number the rows of a table, and one number is left."""
    if not 1 <= rows < 2**31:
        raise ValueError(f"{op}: a table of {rows} rows, expected 1 .. 2**31 - 1")


def in_table(indices, rows):
    """int32, with the number M = `rows` for all that is outside 0 .. M - 1."""
    return jnp.where((indices >= 0) & (indices < rows), indices, rows).astype(jnp.int32)


def check_stack(op, values, layer):
    """`layer` as an array; raises ValueError unless there is one just where `values` is a stack."""
    if values.ndim != 2 + (layer is not None):
        raise ValueError(f"{op}: values has shape {values.shape}, expected [M, V], or [R, M, V] with layer=")
    check_rows(op, values.size // max(values.shape[-1], 1))
    return None if layer is None else jnp.asarray(layer, jnp.int32)


def in_stack(values, layer, indices):
    """For one of the tables [R, M, V]: all of them as one [R M, V], and its rows' numbers there, R M for none."""
    if layer is None:
        return values, indices
    stack, rows, width = values.shape
    return values.reshape(stack * rows, width), jnp.where(indices < rows, indices + layer * rows, stack * rows)
