"""Rows apart from their table: taken, put, and the gradients of a stack of tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import config as jaxtyping_config

from memjax.ops import put_rows, row_gradients, take_rows
from tests.ops.value_bag.cases import Case, as_float32, draw
from tests.tolerances import assert_close


def update(table, rows, change):
    """What a row-wise optimizer does."""
    return put_rows(table, rows, take_rows(table, rows) + change)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32])
@pytest.mark.parametrize("stack", [(), (2,)])
def test_rows_are_taken_and_put_and_the_others_stay(stack, dtype, rng):
    table = rng.integers(-9, 9, size=(*stack, 20, 3))
    rows = (
        np.array([0, 3, 7, 19, 20, 20], np.int32) if not stack else np.array([[2, 4, 5, 20], [0, 1, 19, 99]], np.int32)
    )
    taken, expected = np.zeros((*rows.shape, 3)), table.copy()
    for at in np.ndindex(rows.shape):
        if rows[at] < 20:
            taken[at] = table[(*at[:-1], rows[at])]
            expected[(*at[:-1], rows[at])] += 1
    arguments = jnp.asarray(table, dtype), jnp.asarray(rows)
    actual = jax.jit(lambda table, rows: (take_rows(table, rows), update(table, rows, 1)))(*arguments)
    assert [x.dtype for x in actual] == [dtype, dtype]
    np.testing.assert_array_equal(actual[0], taken)
    np.testing.assert_array_equal(actual[1], expected)


@pytest.mark.parametrize("stack", [(), (2,)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_rows_are_put_in_place_of_a_donated_table(stack, dtype):
    """Of 65536 rows 64 are written. jax 0.10 copies a bfloat16 table on a CPU, and never widens it."""
    table = jax.ShapeDtypeStruct((*stack, 65536, 64), dtype)
    rows, values = jax.ShapeDtypeStruct((*stack, 64), jnp.int32), jax.ShapeDtypeStruct((*stack, 64, 64), dtype)
    memory = jax.jit(update, donate_argnums=0).lower(table, rows, values).compile().memory_analysis()
    copies = dtype == jnp.bfloat16 and jax.__version_info__ < (0, 11)
    assert memory.alias_size_in_bytes == table.size * table.dtype.itemsize
    assert memory.temp_size_in_bytes < copies * memory.alias_size_in_bytes + 2**18


def test_gradients_of_stacked_tables_are_those_of_each(rng):
    inputs = [as_float32(draw(Case((2, 4), 3, rows=9, kind="outside"), rng)) for _ in range(3)]
    _, indices, weights, cotangent = (jnp.stack(x) for x in zip(*inputs, strict=True))
    run = jax.jit(row_gradients, static_argnums=3, static_argnames="stacked")
    stacked = run(indices, weights, cotangent, 9, stacked=True)
    for n in range(3):
        own = run(indices[n], weights[n], cotangent[n], 9)
        assert_close(jax.tree.map(lambda x, n=n: x[n], stacked), own)


@pytest.mark.slow
def test_more_tables_make_no_longer_program():
    def length(tables):
        shapes = ((tables, 4, 3), jnp.int32), ((tables, 4, 3), jnp.float32), ((tables, 4, 2), jnp.float32)
        reads = [jax.ShapeDtypeStruct(*shape) for shape in shapes]
        return len(jax.jit(lambda *x: row_gradients(*x, 9, stacked=True)).lower(*reads).as_text().splitlines())

    assert length(2) == length(7)


def test_what_cannot_be_is_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)  # outside of tests nothing checks the annotations
    table, rows = jnp.zeros((2, 5, 3)), jnp.zeros((2, 4), jnp.int32)
    with pytest.raises(ValueError, match="table of 0 rows"):
        take_rows(table[:, :0], rows)
    with pytest.raises(ValueError, match="rows has shape"):
        take_rows(table, rows[0])
    with pytest.raises(ValueError, match="values has shape"):
        put_rows(table, rows, jnp.zeros((2, 4, 4)))
    with pytest.raises(ValueError, match="for stacked tables"):
        row_gradients(rows[0], jnp.zeros(4), jnp.zeros(3), 5, stacked=True)
