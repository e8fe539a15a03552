"""The TPU kernels of the value bag: interpreted against float64, and compiled for the chips."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.pallas.mosaic.interpret import interpret_pallas_call
from jax.experimental.pallas import tpu as pltpu

from memjax.ops import row_dots, value_bag
from memjax.ops.value_bag import pallas_tpu, reference, tiling
from memjax.sharding import make_mesh
from tests.ahead_of_time import TPUS, compile_for, kernels_in
from tests.ops.value_bag.both_ops import OPS, bag, dots, expected, shapes, three_kernels
from tests.ops.value_bag.cases import Case, as_float32, draw
from tests.tolerances import assert_close

MIB = 2**20
ODD = Case((3, 7), 9, rows=50, width=128, kind="outside")  # tokens and reads fill no tile


tpu = partial(partial, implementation="pallas_tpu")


@OPS
def test_values_and_gradients_equal_float64(op, rng):
    inputs = as_float32(draw(ODD, rng))
    assert_close(jax.jit(tpu(op))(*inputs), expected(op, *inputs), gradient=True)


@OPS
def test_bfloat16_is_summed_in_float32(op, rng):
    """Rounded once: off by at most 2^-8, in the mean by 1e-3 of the number."""
    inputs = as_float32(draw(Case((20,), 33, rows=24, width=256, kind="outside"), rng))
    narrow = [x if x.dtype == jnp.int32 else x.astype(jnp.bfloat16) for x in inputs]
    actual = jax.jit(tpu(op))(*narrow)
    assert [x.dtype for x in actual] == [jnp.bfloat16 if op is bag else jnp.float32, *[jnp.bfloat16] * 2]
    wanted = expected(op, *narrow)
    assert_close(actual, wanted, factor=0.1, dtype=jnp.bfloat16)
    if op is dots:
        assert_close(actual[0], wanted[0])


@pytest.mark.parametrize("op", ["value_bag", "row_dots"])
def test_no_copy_races_and_no_row_is_read_before_it_came(op, rng, monkeypatch):
    """The simulated chip, whose memory is NaN where nothing was written; it has no words of two bfloat16 rows. Two grid
    steps of 8 tokens, and a ring of 3 slots that goes round; some tokens read all of their rows, some fewer."""
    monkeypatch.setattr(tiling, "tpu", lambda *_: tiling.TpuTiling(tokens=8, bag=8, slots=3))
    values, indices, weights, x = as_float32(draw(Case((11,), 8, rows=50, width=128), rng))
    indices = indices.at[0].set(50).at[3, 4].set(50)
    dtype = {"dtype": jnp.dtype(jnp.float32)} if op == "value_bag" else {}
    inputs = (values, indices, weights if op == "value_bag" else x)
    simulated = pltpu.InterpretParams(detect_races=True, uninitialized_memory="nan")
    actual = jax.jit(partial(getattr(pallas_tpu, op), **dtype, interpret=simulated))(*inputs)
    assert_close(actual, getattr(reference, op)(*inputs, **dtype))
    assert not interpret_pallas_call.races.races_found


def test_mapped_axes_are_more_tokens_and_more_tables(rng):
    values, indices, weights, _ = as_float32(draw(Case((3, 4), 5, rows=10, width=128, kind="outside"), rng))
    values = jnp.stack([values, values + 1, values - 1])
    for axes in ((0, 0, 0), (None, 0, None)):
        inputs = [x if axis == 0 else x[0] for x, axis in zip((values, indices, weights), axes, strict=True)]
        over = lambda implementation, axes=axes: jax.vmap(partial(value_bag, implementation=implementation), axes)
        assert_close(jax.jit(over("pallas_tpu"))(*inputs), over("reference")(*inputs))


@pytest.mark.slow
def test_eight_devices_equal_one(rng):
    """The kernel that sums the table's gradient too."""
    if jax.device_count() < 8:
        pytest.skip("needs 8 devices; CPUs are split into 8 by tests/conftest.py")
    inputs = as_float32(draw(Case((8,), 3, rows=32, width=256, kind="outside"), rng))
    with jax.set_mesh(make_mesh(data=2, fsdp=2, tensor=2)):
        actual = jax.jit(lambda *x: (tpu(bag)(*x), tpu(dots)(*x)))(*inputs)
    assert_close(actual, (expected(bag, *inputs), expected(dots, *inputs)), gradient=True)


def test_what_cannot_be_served_is_refused_with_its_reason():
    table, indices, weights, _ = shapes()
    assert pallas_tpu.refusal(table, indices, weights) is None
    refused = {
        "no multiple of 128": shapes(width=64),
        "float64": (jax.ShapeDtypeStruct((64, 128), np.float64), indices, weights),
        "is odd": shapes(rows=65535, dtype=jnp.bfloat16),
        "on chip": shapes(width=8192, reads=1024),
    }
    for reason, inputs in refused.items():
        assert reason in pallas_tpu.refusal(*inputs[:3])


@pytest.mark.aot
@pytest.mark.parametrize("chip", TPUS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_the_chips_compile_both_kernels(chip, dtype):
    """[tokens, reads, V] takes 128 MiB, of bfloat16 64; beside the outputs are a few arrays of tokens x reads numbers
    (512 KiB each), or none in device memory at all."""

    compiled = compile_for(chip, three_kernels, *shapes(dtype=dtype))
    assert kernels_in(compiled) == 3
    assert compiled.memory_analysis().temp_size_in_bytes <= 2 * MIB


@pytest.mark.aot
def test_rows_wide_and_bags_long():
    for more in ({"width": 2048, "reads": 512}, {"width": 128, "reads": 4}, {"tokens": 1001, "reads": 33}):
        compiled = compile_for("v6e", lambda v, i, w, x: (value_bag(v, i, w), row_dots(v, i, x)), *shapes(**more))
        assert kernels_in(compiled) == 2


@pytest.mark.aot
def test_a_table_of_narrow_rows_is_left_to_xla():
    assert kernels_in(compile_for("v5e", lambda v, i, w, _: value_bag(v, i, w), *shapes(width=64))) == 0
