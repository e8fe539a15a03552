"""Rows of a table apart from the table: the gradient on the rows that were read, and taking and putting rows.

An optimizer that touches no other row takes one step so:

    rows, g = row_gradients(indices, weights, cotangent, M)
    table   = put_rows(table, rows, step(take_rows(table, rows), g))

Under a mesh that splits the rows over F devices (see `sharded`) all three speak of rows in F blocks of equal length;
block f holds rows of device f only, M f / F .. M (f + 1) / F - 1, and ends in padding, the row M. Blocks lie on the
devices whose rows they hold, so that taking and putting move nothing between devices.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from memjax.ops import implementations, mesh
from memjax.ops.value_bag import gradients, sharded
from memjax.ops.value_bag.checks import check, check_rows, in_table


def row_gradients(
    indices: Int[Array, "*lead J"],
    weights: Float[Array, "*lead J"],
    cotangent: Float[Array, "*lead V"],
    rows: int,
    *,
    stacked: bool = False,
) -> tuple[Int[Array, "*stack n"], Float[Array, "*stack n V"]]:
    """The gradient of a table by `value_bag`, on the rows that were read and nowhere else. Not differentiable.

    That of `row_dots` too: there `weights` is the cotangent of its result and `cotangent` is x.

    Args:
        indices: as for `value_bag`.
        weights: as for `value_bag`.
        cotangent: gradient with respect to the output of `value_bag`, [..., V].
        rows: M, of the table.
        stacked: the first axis of all three is R, that of as many tables of M rows each; tables go by in turn, and R
            adds nothing to what is compiled.

    Returns:
        The rows that were read, if only with weight zero: [n] int32 ([R, n] if stacked), ascending and each once,
        n = min(M, T J) for T J indices of a table; and their gradients [n, V] ([R, n, V]) in float32 (float64 as soon
        as an input is). Places that are left over, at the end, hold the row M and zeros. Under a mesh that splits the
        rows over F devices n = F min(M / F, T J), and the same holds of each of F blocks.

    Raises:
        ValueError: shapes that do not fit together, M or J is 0, M >= 2**31.
    """
    *lead, bag = indices.shape
    expected = {"weights": (weights, [indices.shape]), "cotangent": (cotangent, [(*lead, *cotangent.shape[-1:])])}
    check("row_gradients", indices, rows, expected)
    stack = int(stacked)
    if len(lead) < stack:
        raise ValueError(f"row_gradients: indices has shape {indices.shape}, expected [R, ..., J] for stacked tables")
    flat = (*lead[:stack], math.prod(lead[stack:]))
    at, weights = in_table(indices, rows).reshape(*flat, bag), weights.reshape(*flat, bag)
    g = cotangent.reshape(*flat, cotangent.shape[-1])
    return sharded.row_gradients(_sparse, at, weights, g, rows, stack=stack)


def take_rows(table: Shaped[Array, "*stack M V"], rows: Int[Array, "*stack n"]) -> Shaped[Array, "*stack n V"]:
    """Rows of a table, or of each of a stack of tables. Not differentiable.

    Args:
        table: [M, V] or [R, M, V], of any dtype.
        rows: [n] or [R, n], any integers; a number that is not in 0 .. M - 1 is padding. Under a mesh that splits the
            rows: laid out in blocks as by `row_gradients`, and what a block holds of other devices' rows is padding.

    Returns:
        [n, V] or [R, n, V] in the dtype of the table, zeros for padding.

    Raises:
        ValueError: shapes that do not fit together, M = 0 or >= 2**31, an n that is not made of F blocks.
    """
    _check_rows("take_rows", table, rows)
    return sharded.take_rows(_take, table, in_table(rows, table.shape[-2]))


def put_rows(
    table: Shaped[Array, "*stack M V"], rows: Int[Array, "*stack n"], values: Shaped[Array, "*stack n V"]
) -> Shaped[Array, "*stack M V"]:
    """The table with these rows replaced; all others stay bit by bit. Not differentiable.

    Under `jax.jit`, where nothing else needs the old table (it was donated, say), rows are written in its place and
    the time does not depend on M. (jax 0.10 copies a bfloat16 table on a CPU.)

    Args:
        table: as in `take_rows`.
        rows: as in `take_rows`; ascending and each once, padding aside, which is dropped. Rows that come twice leave
            the row undefined.
        values: [n, V] or [R, n, V], cast to the dtype of the table.

    Returns:
        The table, in its shape and dtype.

    Raises:
        ValueError: as `take_rows`.
    """
    _check_rows("put_rows", table, rows)
    implementations.check_shapes("put_rows", {"values": (values, [(*rows.shape, table.shape[-1])])})
    return sharded.put_rows(_put, table, in_table(rows, table.shape[-2]), values.astype(table.dtype))


def _sparse(indices, weights, cotangent, rows):
    """Arguments as in `gradients.sparse`, or of a stack."""
    if indices.ndim == 2:
        return gradients.sparse(indices, weights, cotangent, rows)
    return jax.lax.map(lambda reads: gradients.sparse(*reads, rows=rows), (indices, weights, cotangent))


def _take(table, rows):
    return table.at[_places(rows)].get(mode="fill", fill_value=0)


def _put(table, rows, values):
    if table.dtype != jnp.bfloat16 or jax.__version_info__ >= (0, 11):
        return _scatter(table, rows, values)
    return jax.lax.platform_dependent(table, rows, values, cpu=_put_bits, default=_scatter)


def _put_bits(table, rows, values):
    """XLA of jax 0.10 scatters bfloat16 on a CPU by widening all of the table, so it gets integers to move instead.

    Integers are a copy of the table, half the memory and time of widening. In place is not to be had: all that writes
    to a part of a bfloat16 array is widened there.
    """
    to_bits = lambda x: jax.lax.bitcast_convert_type(x, jnp.uint16)
    return jax.lax.bitcast_convert_type(_scatter(to_bits(table), rows, to_bits(values)), jnp.bfloat16)


def _scatter(table, rows, values):
    return table.at[_places(rows)].set(values, mode="drop", unique_indices=True)


def _places(rows):
    """For rows [*stack, n] the numbers of the table in the stack, and of the row."""
    return (*np.indices((*rows.shape[:-1], 1), sparse=True)[:-1], rows)


def _check_rows(op, table, rows):
    *stack, height, width = table.shape
    check_rows(op, height)
    implementations.check_shapes(op, {"rows": (rows, [(*stack, *rows.shape[-1:])])})
    blocks = mesh.axis_size(sharded.split_of((height, width)).rows)
    if rows.shape[-1] % blocks:
        raise ValueError(f"{op}: rows has shape {rows.shape}, expected {blocks} blocks, one for each device's rows")
