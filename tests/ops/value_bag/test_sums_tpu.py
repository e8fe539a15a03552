"""The TPU kernel that sums the gradient of a table: interpreted against float64, and compiled for the chips."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.pallas.mosaic.interpret import interpret_pallas_call
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from memjax.ops import row_gradients, value_bag
from memjax.ops.value_bag import gradients, sums_tpu, tiling
from tests.ahead_of_time import TPUS, compile_for, kernels_in, topology
from tests.ops.value_bag.both_ops import shapes
from tests.ops.value_bag.cases import RUNS, Case, as_float32, by_hand, draw, draw_runs
from tests.tolerances import assert_close

KIB = 2**10


@pytest.fixture
def small(monkeypatch):
    """Blocks of three groups of 8 reads; rings of two groups of rows and of three sums, which go round."""
    monkeypatch.setattr(sums_tpu, "READS", 24)
    monkeypatch.setattr(tiling, "tpu_sums", lambda _: tiling.TpuSums(slots=2, writes=3))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", RUNS)
def test_runs_of_reads_within_blocks_and_across(kind, rng):
    """On the simulated chip, whose memory is NaN where nothing was written: no copy races, and no sum is read or leaves
    before it is whole. Rows of bfloat16, which are written in pairs, are those of float32 rounded."""
    reads, wanted = draw_runs(kind, rng)
    simulated = pltpu.InterpretParams(detect_races=True, uninitialized_memory="nan", out_of_bounds_reads="raise")
    run = jax.jit(partial(sums_tpu.run_sums, interpret=simulated))
    wide = run(*reads, jnp.zeros((20, 128)))
    assert_close(wide, wanted)
    assert not interpret_pallas_call.races.races_found
    np.testing.assert_array_equal(run(*reads, jnp.zeros((20, 128), jnp.bfloat16)), wide.astype(jnp.bfloat16))
    assert not interpret_pallas_call.races.races_found


def test_numbers_are_rounded_as_jax_rounds_them():
    x = jnp.asarray([1.0, 1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 3e38, 3.4e38, 1e-40, -0.0, np.inf, -np.inf, np.nan])
    bits = sums_tpu._bits(x).astype(jnp.uint16)
    wide = lambda x: np.asarray(x, np.float32)  # whose NaN are equal
    np.testing.assert_array_equal(wide(jax.lax.bitcast_convert_type(bits, jnp.bfloat16)), wide(x.astype(jnp.bfloat16)))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_the_table_and_its_touched_rows_equal_float64(dtype, rng):
    """The cotangent is narrow too; sums are not."""
    values, indices, weights, cotangent = as_float32(draw(Case((3, 7), 9, rows=50, width=128, kind="outside"), rng))
    values, cotangent = values.astype(dtype), cotangent.astype(dtype)
    at = jnp.where((indices < 0) | (indices > 50), 50, indices).reshape(21, 9)
    inputs = at, weights.reshape(21, 9), cotangent.reshape(21, 128)
    _, wanted, _ = by_hand(np.zeros((50, 128)), *(np.asarray(x, int if x is at else float) for x in inputs))
    actual = jax.jit(partial(gradients.dense, implementation="pallas_tpu"))(*inputs, values)
    assert_close(actual, wanted, gradient=True, factor=0.1 if dtype == jnp.bfloat16 else 1)  # rounded once
    rows, sums = jax.jit(partial(gradients.sparse, rows=50, implementation="pallas_tpu"))(*inputs)
    assert sums.dtype == jnp.float32
    assert_close(sums, np.concatenate([wanted, np.zeros((1, 128))])[rows], gradient=True)


def test_a_row_that_every_token_reads_keeps_its_digits():
    """32768 equal numbers on one row: summed one by one, every rounding would go the same way, by 1.5e-4 in the end."""
    ones, weights = jnp.ones(32768, jnp.int32), jnp.full(32768, 0.1)
    run = jax.jit(partial(sums_tpu.run_sums, interpret=True))
    sums = run(ones, ones - 1, weights, jnp.ones((1, 128)), jnp.zeros((2, 128)))
    assert_close(sums, np.float64(np.float32(0.1)) * np.repeat([[0], [32768]], 128, axis=1), factor=0.2)


def test_what_cannot_be_served_is_refused_with_its_reason():
    shape = lambda *dims, dtype=jnp.float32: jax.ShapeDtypeStruct(dims, dtype)
    refusal = lambda out, cotangent=None, reads=9: sums_tpu.refusal(reads, cotangent or out, shape(9), out)
    assert refusal(shape(7, 256)) is refusal(shape(8, 256, dtype=jnp.bfloat16)) is None
    assert "no multiple of 128" in refusal(shape(8, 64))
    assert "is odd" in refusal(shape(7, 256, dtype=jnp.bfloat16))
    assert "not float32" in refusal(shape(8, 256), shape(8, 256, dtype=np.float64))
    assert "on chip" in refusal(shape(8, 2**20))
    assert "no reads" in refusal(shape(8, 256), reads=0)


SPARE = 640 * KIB
"""Of device memory beside a result of 64 or 32 MiB, which lies where its zeros lay: 8192 sorted reads, a few numbers
each, a cotangent of 64 KiB widened, and on some chips what a sort works in."""


@pytest.mark.aot
@pytest.mark.parametrize("chip", TPUS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_the_chips_compile_the_gradient_of_a_table(chip, dtype):
    compiled = compile_for(chip, lambda v, i, w, x: gradients.dense(i, w, x, v), *shapes(tokens=64, dtype=dtype))
    assert kernels_in(compiled) == 1
    assert compiled.memory_analysis().temp_size_in_bytes <= SPARE


@pytest.mark.aot
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_rows_wide_and_reads_odd(dtype):
    inputs = shapes(rows=1000, width=2048, tokens=101, reads=33, dtype=dtype)
    compiled = compile_for("v6e", lambda v, i, w, x: gradients.sparse(i, w, x, 1000), *inputs)
    assert kernels_in(compiled) == 1


@pytest.mark.aot
def test_four_chips_compile_the_kernel_on_each_part():
    """Rows over two of them and the width over two: the bag, the gradient of its table, and that of touched rows."""
    mesh = jax.make_mesh((1, 2, 2), ("data", "fsdp", "tensor"), (AxisType.Auto,) * 3, devices=topology("v5e").devices)
    place = lambda x, spec: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec))

    def step(values, indices, weights, x):
        o, pull = jax.vjp(lambda values: value_bag(values, indices, weights), values)
        return o, *pull(x), row_gradients(indices, weights, x, values.shape[0])

    specs = P("fsdp", "tensor"), P("fsdp"), P("fsdp"), P("fsdp")
    with jax.set_mesh(mesh):
        compiled = jax.jit(step).lower(*map(place, shapes(tokens=64), specs)).compile()
    assert kernels_in(compiled) == 3
    assert compiled.memory_analysis().temp_size_in_bytes <= SPARE
