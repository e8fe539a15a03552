from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from memjax.ops import row_gradients, value_bag
from memjax.ops.value_bag import gradients
from tests.ops.value_bag.cases import CASES, Case, as_float32, by_hand, draw
from tests.tolerances import assert_close

MIB = 2**20


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of a few reads: runs span them, and the last one is not full."""
    monkeypatch.setattr(gradients, "ELEMENTS", {"cpu": 96, "default": 96})
    monkeypatch.setattr(gradients, "_on_cpu", partial(gradients._on_cpu))  # jax keeps what it traced of the old one


def everything(values, indices, weights, cotangent):
    """Output, gradients of values and weights, and the sparse gradient of values."""
    o, pull = jax.vjp(lambda values, weights: value_bag(values, indices, weights), values, weights)
    return o, *pull(cotangent), row_gradients(indices, weights, cotangent, values.shape[0])


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients_equal_float64(case, rng):
    inputs = draw(case, rng)
    # anew, since the size of a block is no argument
    *actual, (rows, sums) = jax.jit(partial(everything))(*as_float32(inputs))
    expected = by_hand(*inputs)
    assert_close(tuple(actual), expected, gradient=True)

    read = np.unique(inputs[1][(inputs[1] >= 0) & (inputs[1] < case.rows)])
    assert rows.size == min(case.rows, inputs[1].size)
    np.testing.assert_array_equal(rows, np.pad(read, (0, rows.size - read.size), constant_values=case.rows))
    np.testing.assert_array_equal(sums[: read.size], actual[1][read])  # the same sums, bit by bit
    assert not np.asarray(sums[read.size :]).any()


def test_many_reads_sort_in_several_passes(rng):
    """65536 reads leave 16 bits a pass for the 20 of a row."""
    rows = np.concatenate([rng.integers(0, 10**6, 65000), rng.integers(0, 3, 500), np.full(36, 10**6)]).astype(np.int32)
    order = jax.jit(partial(gradients._order, last=10**6))(jnp.asarray(rows))
    np.testing.assert_array_equal(order, np.argsort(rows, kind="stable"))


def test_a_row_that_every_token_reads_keeps_its_digits():
    """65536 equal numbers on one row: summed one by one, every rounding would go the same way, by 3e-4 in the end."""
    indices, weights = jnp.ones((4096, 16), jnp.int32), jnp.full((4096, 16), 0.1)
    rows, sums = jax.jit(row_gradients, static_argnums=3)(indices, weights, jnp.ones((4096, 64)), 4)
    assert rows[0] == 1
    assert_close(sums[0], np.full(64, np.float64(np.float32(0.1)) * 65536), gradient=True)


def test_bfloat16_is_summed_in_float32(rng):
    """One rounding is off by at most 2^-9, in the mean by 1e-3 of the number; sums in bfloat16 are off by more."""
    inputs = as_float32(draw(Case((200,), 64, rows=7, width=16), rng))
    narrow = [x if x.dtype == jnp.int32 else x.astype(jnp.bfloat16) for x in inputs]
    *actual, (rows, sums) = jax.jit(everything)(*narrow)
    expected = by_hand(*(np.asarray(x, np.float64 if x.dtype == jnp.bfloat16 else int) for x in narrow))
    assert [x.dtype for x in actual] == [jnp.bfloat16] * 3
    assert_close(tuple(actual), expected, factor=0.1)
    assert sums.dtype == jnp.float32
    assert_close(sums, expected[1][rows], gradient=True)


def test_vmap_agrees_and_a_second_run_is_the_same(rng):
    case = Case((2, 10), 5, rows=20)
    values, indices, weights, cotangent = draw(case, rng)
    inputs = np.stack([values, values - 1]), indices, weights, cotangent
    run = jax.jit(jax.vmap(everything))
    actual, again = (run(*as_float32(inputs)) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, actual, again)
    for n in range(2):
        own = by_hand(*(x[n] for x in inputs))
        assert_close(jax.tree.map(lambda x, n=n: x[n], actual[:3]), own, gradient=True)
        np.testing.assert_array_equal(
            actual[3][1][n][: len(np.unique(indices[n]))], actual[1][n][np.unique(indices[n])]
        )


def test_tokens_and_width_over_devices(rng):
    """Gradients are summed over the devices that share what they belong to."""
    inputs = draw(Case((8,), 5, rows=20), rng)
    mesh = jax.make_mesh((2, 2), ("fsdp", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    tokens, width, both = P("fsdp"), P(None, "tensor"), P("fsdp", "tensor")
    sharded = jax.shard_map(value_bag, mesh=mesh, in_specs=(width, tokens, tokens), out_specs=both)

    def gradient(values, indices, weights, cotangent):
        o, pull = jax.vjp(lambda values, weights: sharded(values, indices, weights), values, weights)
        return o, *pull(cotangent)

    assert_close(jax.jit(gradient)(*as_float32(inputs)), by_hand(*inputs), gradient=True)


def plan(function, *, dtype=jnp.float32):
    """Bytes beyond the result at M 65536, V 256, 1024 tokens, J 128, where [tokens, J, V] takes 128 MiB."""
    shapes = ((65536, 256), dtype), ((1024, 128), jnp.int32), ((1024, 128), dtype), ((1024, 256), dtype)
    arguments = [jax.ShapeDtypeStruct(*shape) for shape in shapes]
    return jax.jit(function).lower(*arguments).compile().memory_analysis()


def test_nothing_holds_a_row_for_every_read():
    assert plan(lambda *x: everything(*x)[:3]).temp_size_in_bytes < 8 * MIB


def test_a_narrow_table_is_not_widened():
    """A CPU needs the table's gradient, of 32 MiB, a second time, and nothing else of that size."""
    memory = plan(lambda *x: everything(*x)[:3], dtype=jnp.bfloat16)
    assert memory.temp_size_in_bytes < (32 + 8) * MIB


def test_a_constant_table_gets_no_gradient():
    """Of the weights alone nothing of the table's size is made."""

    def weight_gradient(values, indices, weights, cotangent):
        return jax.vjp(lambda weights: value_bag(values, indices, weights), weights)[1](cotangent)

    memory = plan(weight_gradient)
    assert memory.temp_size_in_bytes < 8 * MIB
    assert memory.output_size_in_bytes < 1 * MIB
