"""The GPU kernels of the value bag: interpreted against float64, and compiled for an H200."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from memjax.ops import row_dots, value_bag
from memjax.ops.value_bag import gradients, pallas_gpu, reference, sums_gpu
from tests.ahead_of_time import compile_for, kernels_in, topology
from tests.ops.value_bag.both_ops import OPS, bag, dots, expected, shapes, three_kernels
from tests.ops.value_bag.cases import RUNS, Case, as_float32, draw, draw_runs
from tests.tolerances import assert_close

pytestmark = pytest.mark.skipif(jax.__version_info__ < (0, 11), reason="the GPU kernels need jax >= 0.11 (Python 3.12)")
KIB = 2**10
gpu = partial(partial, implementation="pallas_gpu")


@OPS
def test_values_and_gradients_equal_float64(op, rng):
    """The reads of a token fill two rounds of 8 and one of 16 in part."""
    inputs = as_float32(draw(Case((3,), 11, rows=50, width=384, kind="outside"), rng))
    assert_close(jax.jit(gpu(op))(*inputs), expected(op, *inputs), gradient=True)


def test_bfloat16_is_summed_in_float32(rng):
    """Rounded once: off by at most 2^-8 of the number, and these are few."""
    inputs = as_float32(draw(Case((2,), 18, rows=24, width=256, kind="outside"), rng))
    values, indices, weights, x = (a if a.dtype == jnp.int32 else a.astype(jnp.bfloat16) for a in inputs)
    run = lambda *x: (gpu(value_bag)(*x[:3]), gpu(row_dots)(*x[:2], x[3]))
    o, s = jax.jit(run)(values, indices, weights, x)
    assert [y.dtype for y in (o, s)] == [jnp.bfloat16, jnp.float32]
    assert_close(o, expected(bag, values, indices, weights, x)[0], factor=0.15)
    assert_close(s, expected(dots, values, indices, weights, x)[0])


@pytest.fixture
def no_races(monkeypatch):
    """Has the simulated card look for races; its memory is NaN where nothing was written."""
    from jax._src.pallas.mosaic_gpu.interpret.gpu_callbacks import get_races
    from jax.experimental.pallas import mosaic_gpu as plgpu

    simulated = plgpu.InterpretGPUParams(detect_races=True, uninitialized_memory="nan")
    monkeypatch.setattr(plgpu, "InterpretGPUParams", lambda: simulated)
    yield
    assert not get_races().races_found


@pytest.mark.usefixtures("no_races")
@pytest.mark.parametrize("op", ["value_bag", "row_dots"])
def test_no_race_and_nothing_is_read_before_it_is_written(op, rng):
    """Three rounds of the shared memory that the dots go through."""
    values, indices, weights, x = as_float32(draw(Case((1,), 33, rows=50, width=256), rng))
    dtype = {"dtype": jnp.dtype(jnp.float32)} if op == "value_bag" else {}
    inputs = (values, indices, weights if op == "value_bag" else x)
    actual = jax.jit(partial(getattr(pallas_gpu, op), **dtype, interpret=True))(*inputs)
    assert_close(actual, getattr(reference, op)(*inputs, **dtype))


@pytest.mark.usefixtures("no_races")
@pytest.mark.parametrize("kind", RUNS)
def test_runs_of_reads_within_blocks_and_across(kind, rng, monkeypatch):
    """Blocks of 8 reads, rounds of 4, a table of 20 rows whose memory is NaN before."""
    monkeypatch.setattr(sums_gpu, "READS", 8)
    reads, wanted = draw_runs(kind, rng)
    run = jax.jit(partial(gradients._on_gpu, interpret=True))
    dtype = jnp.bfloat16 if kind == "skewed" else jnp.float32
    assert_close(run(*reads, jnp.zeros((20, 128), dtype)), wanted)


def test_touched_rows_are_those_of_xla(rng):
    _, indices, weights, cotangent = as_float32(draw(Case((5,), 9, rows=20, width=128), rng))
    forms = (partial(gradients.sparse, rows=20, implementation=name) for name in ("pallas_gpu", "xla"))
    assert_close(*(jax.jit(form)(indices, weights, cotangent) for form in forms))


@pytest.mark.aot
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_an_h200_compiles_the_kernels(dtype):
    """[tokens, reads, V] takes 128 MiB, of bfloat16 64; beside the outputs are indices and weights in whole rounds, and
    what a kernel gives in place of zeros, 512 KiB each."""
    compiled = compile_for("h200", three_kernels, *shapes(dtype=dtype))
    assert kernels_in(compiled) == 3
    assert compiled.memory_analysis().temp_size_in_bytes <= 3 * KIB * KIB


@pytest.mark.aot
def test_an_h200_compiles_the_gradient_of_a_table():
    """8192 reads: beside the gradient, of 64 MiB, lie the sorted reads, a few numbers each, the runs that blocks share,
    128 KiB, and a number for each row of the table, 256 KiB."""
    compiled = compile_for("h200", lambda v, i, w, x: gradients.dense(i, w, x, v), *shapes(tokens=64))
    assert kernels_in(compiled) == 1
    assert compiled.memory_analysis().temp_size_in_bytes <= 600 * KIB


@pytest.mark.aot
@pytest.mark.parametrize("more", [{"width": 2048, "reads": 32}, {"width": 384, "tokens": 1001, "reads": 17}], ids=str)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_other_widths_and_bags(more, dtype):
    compiled = compile_for(
        "h200", lambda v, i, w, x: (value_bag(v, i, w), row_dots(v, i, x)), *shapes(**more, dtype=dtype)
    )
    assert kernels_in(compiled) == 2


@pytest.mark.aot
def test_eight_gpus_compile_the_kernels():
    """Tokens over all, rows over four of them, and the width over two."""
    devices = topology("h200", 8).devices
    mesh = jax.make_mesh((1, 4, 2), ("data", "fsdp", "tensor"), (AxisType.Auto,) * 3, devices=devices)
    specs = P("fsdp", "tensor"), P("fsdp"), P("fsdp"), P("fsdp")
    place = lambda x, spec: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec))
    with jax.set_mesh(mesh):
        lowered = jax.jit(three_kernels).lower(*map(place, shapes(), specs))
        compiled = lowered.compile({"xla_gpu_autotune_level": 0})
    assert kernels_in(compiled) == 3
