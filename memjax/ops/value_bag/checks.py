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
    if not 1 <= rows < 2**31:
        raise ValueError(f"{op}: a table of {rows} rows, expected 1 .. 2**31 - 1")


def in_table(indices, rows):
    """int32, with the number M = `rows` for all that is outside 0 .. M - 1."""
    return jnp.where((indices >= 0) & (indices < rows), indices, rows).astype(jnp.int32)
