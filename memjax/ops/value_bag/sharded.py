"""The ops of a table over the devices of a mesh: each brings the tokens to the rows, never the rows to the tokens.

The table [M, V] (or a stack of them) lies with its rows over `fsdp` and its width V over `tensor`; tokens, the first
axis of `indices`, over `data` and `fsdp`. An axis of the mesh that does not divide its dimension is not used, as in
`memjax.sharding`. A device reads, of the rows that it holds, for all tokens of the devices that together hold the
table, and `fsdp` sums what they found:

    all_gather(indices, weights) -> bag of own rows -> psum_scatter(o)

For T tokens a device on F devices along `fsdp` that moves F T J numbers and weights and T F V / tensor sums, for any M.
What is summed over devices is float32; only the gradient of the table is summed over `data` in the dtype of the table.

All that is sharded is an argument of `jax.shard_map`, which transposes itself: what is copied along an axis in the
forward is summed along it in the backward. `check_vma`, that of `jax.shard_map`, is off where a kernel may run
interpreted: the interpreter does not carry along which values vary from device to device.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from memjax.ops import mesh
from memjax.ops.mesh import over_devices, spec
from memjax.ops.value_bag import gradients
from memjax.ops.value_bag.checks import in_table
from memjax.types import BATCH_AXES, FSDP, TENSOR


class Split(NamedTuple):
    """Axes of the mesh that split the tokens, and the rows and the width of the table; () if none does."""

    tokens: tuple[str, ...]
    rows: tuple[str, ...]
    width: tuple[str, ...]


def value_bag(run, values, layer, indices, weights, *, check_vma=True):
    """`run(values, layer, indices, weights, dtype)` for indices [..., J] in 0 .. M, where M reads nothing; a layer of a
    stack [R, M, V] or None."""
    split = split_of(values.shape[-2:], _tokens(indices))
    if not any(split):
        return run(values, layer, indices, weights, values.dtype)
    wide = gradients.wide(values, weights)

    def local(values, layer, indices, weights):
        weights = _gather(weights.astype(wide), split)
        o = run(values, layer, _own(_gather(indices, split), values.shape[-2], split), weights, wide)
        return _add_up(o, split).astype(values.dtype)

    lead = _lead(indices, split)
    specs = (_table_spec(values, split), spec(), spec(*lead, ()), spec(*lead, ()))
    on_devices = over_devices(local, specs, spec(*lead, split.width), check_vma=check_vma)
    return on_devices(values, layer, indices, weights)


def row_dots(run, values, layer, indices, x, *, check_vma=True):
    """`run(values, layer, indices, x)` for indices and layer as above."""
    split = split_of(values.shape[-2:], _tokens(indices))
    if not any(split):
        return run(values, layer, indices, x)
    wide = gradients.wide(values, x)

    def local(values, layer, indices, x):
        own = _own(_gather(indices, split), values.shape[-2], split)
        s = _add_up(run(values, layer, own, _gather(x.astype(wide), split)), split)
        return jax.lax.psum(s, split.width) if split.width else s

    lead = _lead(indices, split)
    specs = (_table_spec(values, split), spec(), spec(*lead, ()), spec(*lead, split.width))
    return over_devices(local, specs, spec(*lead, ()), check_vma=check_vma)(values, layer, indices, x)


def row_gradients(run, indices, weights, cotangent, rows, *, stack):
    """`run(indices, weights, cotangent, rows)` for indices [*stack, ..., J] as above; `stack` is a number of axes.

    Every device sees the reads of all tokens. The result is laid out as `rows.row_gradients` says.
    """
    split = split_of((rows, cotangent.shape[-1]))
    if not any(split):
        return run(indices, weights, cotangent, rows)
    own_rows = rows // mesh.axis_size(split.rows)

    def local(indices, weights, cotangent):
        found, sums = run(_own(indices, own_rows, split), weights, cotangent, own_rows)
        return jnp.where(found < own_rows, found + _first(own_rows, split), rows), sums

    specs = (spec(), spec(), spec(*[()] * (cotangent.ndim - 1), split.width))
    found = [()] * stack + [split.rows]
    return over_devices(local, specs, (spec(*found), spec(*found, split.width)))(indices, weights, cotangent)


def take_rows(run, table, rows):
    """`run(table, rows)`; rows [*stack, n] in 0 .. M, laid out as those of `row_gradients`, and so is the result."""
    split = split_of(table.shape)
    if not any(split):
        return run(table, rows)
    local = lambda table, rows: run(table, _own(rows, table.shape[-2], split))
    found = [()] * (rows.ndim - 1) + [split.rows]
    both = spec(*found, split.width)  # the table has its rows where the result has its rows
    return over_devices(local, (both, spec(*found)), both)(table, rows)


def put_rows(run, table, rows, values):
    """`run(table, rows, values)`; rows and values laid out as in `take_rows`."""
    split = split_of(table.shape)
    if not any(split):
        return run(table, rows, values)
    local = lambda table, rows, values: run(table, _own(rows, table.shape[-2], split), values)
    found = [()] * (rows.ndim - 1) + [split.rows]
    both = spec(*found, split.width)
    return over_devices(local, (both, spec(*found), both), both)(table, rows, values)


def split_of(shape: Sequence[int], tokens: int = 0) -> Split:
    """How the mesh in use splits a table [..., M, V] and this many tokens; axes that are manual already do not."""
    *_, rows, width = shape
    own = lambda size, axes: mesh.dividing(axes, size)
    return Split(own(tokens, BATCH_AXES), own(rows, (FSDP,)), own(width, (TENSOR,)))


def _table_spec(values, split):
    """Of a table or a stack of tables."""
    return spec(*[()] * (values.ndim - 2), split.rows, split.width)


def _tokens(indices):
    return indices.shape[0] if indices.ndim > 1 else 0


def _lead(indices, split):
    """What splits the axes of `indices` before the last."""
    return [split.tokens, *[()] * (indices.ndim - 2)] if indices.ndim > 1 else []


def _first(own_rows, split):
    """The number of the first row that this device holds."""
    return jax.lax.axis_index(split.rows) * own_rows if split.rows else 0


def _own(indices, own_rows, split):
    """Numbers among the rows that this device holds; `own_rows` for what it does not hold."""
    return in_table(indices - _first(own_rows, split), own_rows) if split.rows else indices


def _gather(x, split):
    """The tokens of all devices that share the rows of one table."""
    return jax.lax.all_gather(x, split.rows, tiled=True) if split.rows and split.tokens else x


def _add_up(found, split):
    """The sum of what each of these devices found, for its own tokens."""
    if not split.rows:
        return found
    if not split.tokens:
        return jax.lax.psum(found, split.rows)
    return jax.lax.psum_scatter(found, split.rows, tiled=True)
