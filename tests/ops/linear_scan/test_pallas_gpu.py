"""The Hopper kernel: in jax's simulator of the GPU against float64, and compiled for an H200."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from memjax.ops import linear_scan
from memjax.ops.linear_scan import pallas_gpu, tiling, xla
from tests.ahead_of_time import compile_for, finish, kernels_in, topology
from tests.ops.linear_scan.cases import ALL, Case, check, draw
from tests.tolerances import assert_close, relative_rms

run = functools.partial(linear_scan, implementation="pallas_gpu")
needs_mosaic = pytest.mark.skipif(jax.__version_info__ < (0, 11), reason="Mosaic GPU as used here needs jax 0.11")
CASES = [
    Case(1, width=8, constant=True, reverse=True, complex=ALL),
    Case(37, width=128),  # rows without a gap
    Case(65, width=136, batch=1, reverse=True),
    Case(70, width=8, packed=True),
    Case(70, width=8, constant=True, packed=True, reverse=True, moduli=(0.999, 1.0)),
    Case(21, width=8, packed=True, complex=ALL),
    Case(70, width=8, dtype="bfloat16", packed=True, reverse=True),
]


@needs_mosaic
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients_equal_float64(case):
    check(case, run)


@needs_mosaic
def test_no_races_and_nothing_read_that_was_not_written(rng):
    """In the simulator everything that is not yet written is NaN."""
    from jax.experimental.pallas import mosaic_gpu as plgpu

    decay, x, d_h = (jnp.asarray(rng.uniform(-1, 1, (2, 53, 8)), jnp.float32) for _ in range(3))
    state, d_last = (jnp.asarray(rng.normal(size=(2, 8)), jnp.float32) for _ in range(2))
    marks = jnp.asarray(rng.choice(3, size=(2, 53), p=(0.8, 0.1, 0.1)), jnp.int32)
    how = {"interpret": plgpu.InterpretGPUParams(detect_races=True, uninitialized_memory="nan"), "reverse": True}
    h, last = pallas_gpu.forward(decay, x, state, marks, **how)
    gradients = pallas_gpu.backward(decay, h, state, marks, d_h, d_last, **how)
    blocked = {"reverse": True, "tiling": tiling.Tiling("blocked")}
    assert_close((h, last), xla.forward(decay, x, state, marks, **blocked))
    assert_close(gradients, xla.backward(decay, h, state, marks, d_h, d_last, **blocked), gradient=True)


@needs_mosaic
def test_many_equal_tokens_keep_their_digits():
    """Summed one by one they are wrong by 8e-6, in groups of 64 by 6e-7."""
    x = np.full((1, 1024, 8), 0.1, np.float32)
    expected = np.cumsum(x, axis=1, dtype=np.float64)
    actual, _ = pallas_gpu.forward(
        jnp.ones((1, 1, 8)), jnp.asarray(x), jnp.zeros((1, 8)), None, reverse=False, interpret=True
    )
    assert relative_rms(actual, expected) < 2e-6


@pytest.mark.parametrize("implementation", [None, pytest.param("pallas_gpu", marks=needs_mosaic)])
def test_vmap_and_shard_map_around_the_op(implementation, rng):
    inputs = draw(Case(66 if implementation is None else 18, batch=2, width=8), rng)
    decay, x = (jnp.asarray(inputs[n], jnp.float32)[:, None] for n in ("decay", "x"))
    loss = lambda decay, x, by: (linear_scan(decay, x, implementation=by)[0] ** 2).sum()
    gradient = jax.grad(functools.partial(loss, by=implementation), (0, 1))
    whole = jax.jit(jax.grad(functools.partial(loss, by="xla"), (0, 1)))(decay[:, 0], x[:, 0])
    mapped = jax.jit(jax.vmap(gradient))(decay, x)
    assert_close([np.asarray(g[:, 0]) for g in mapped], [np.asarray(g) for g in whole], gradient=True)
    if implementation is None:  # the simulator runs on one device
        mesh = jax.make_mesh((2,), ("rows",), axis_types=(AxisType.Auto,))
        spec = PartitionSpec("rows")
        by_hand = jax.shard_map(gradient, mesh=mesh, in_specs=(spec, spec), out_specs=(spec, spec))
        assert_close(jax.tree.map(np.asarray, jax.jit(by_hand)(decay[:, 0], x[:, 0])), whole, gradient=True)


@needs_mosaic
def test_what_it_refuses():
    x = jnp.zeros((1, 70, 8))
    with pytest.raises(NotImplementedError, match="x is float16"):
        run(x, x.astype(jnp.float16))
    with pytest.raises(NotImplementedError, match="12 channels are no multiple of 8"):
        run(jnp.zeros((1, 70, 12)), jnp.zeros((1, 70, 12)))
    with jax.enable_x64(True), pytest.raises(NotImplementedError, match="not in float64"):
        run(x.astype(jnp.float64), x)


@pytest.mark.skipif(jax.__version_info__ >= (0, 11), reason="this jax has what the kernel needs")
def test_an_old_jax_is_refused():
    with pytest.raises(NotImplementedError, match=r"needs jax 0\.11"):
        run(jnp.zeros((1, 70, 8)), jnp.zeros((1, 70, 8)))


def _memory(function, *shapes):
    compiled = compile_for("h200", function, *shapes)
    assert kernels_in(compiled) == 1
    return compiled.memory_analysis()


@pytest.mark.aot
@needs_mosaic
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_kernel_passes_over_memory_once(dtype):
    """Arguments and results are the floor, forward 3 arrays and backward 5, and beside them there is nothing."""
    shape = (4, 4096, 1024)
    full, narrow = jax.ShapeDtypeStruct(shape, "float32"), jax.ShapeDtypeStruct(shape, dtype)
    row = jax.ShapeDtypeStruct((shape[0], shape[2]), "float32")
    rows = 4 * row.size * row.dtype.itemsize
    plan = _memory(lambda *x: pallas_gpu.forward(*x, None, reverse=False), full, narrow, row)
    floor = full.size * 4 + 2 * narrow.size * narrow.dtype.itemsize
    assert plan.argument_size_in_bytes + plan.output_size_in_bytes <= floor + rows
    assert plan.temp_size_in_bytes == 0
    backward = lambda decay, h, state, d_h, d_last: pallas_gpu.backward(
        decay, h, state, None, d_h, d_last, reverse=False
    )
    plan = _memory(backward, full, narrow, row, narrow, row)
    floor = 2 * full.size * 4 + 3 * narrow.size * narrow.dtype.itemsize
    assert plan.argument_size_in_bytes + plan.output_size_in_bytes <= floor + rows
    assert plan.temp_size_in_bytes == 0


OTHERS = [
    Case(1000, batch=3, width=600, packed=True, reverse=True, dtype="bfloat16"),
    Case(1000, batch=3, width=128, constant=True),
    Case(1000, width=512, complex=ALL),
]


@pytest.mark.aot
@needs_mosaic
@pytest.mark.parametrize("case", OTHERS, ids=str)
def test_other_shapes_and_numbers_compile_with_none(case):
    of = lambda name, shape: jax.ShapeDtypeStruct(
        shape, "complex64" if name in case.complex else case.dtype if name == "x" else "float32"
    )
    full = (case.batch, case.time, case.width)
    segments = jax.ShapeDtypeStruct(full[:2], "int32") if case.packed else None

    def loss(decay, x, segments):
        h, last = linear_scan(decay, x, segment_ids=segments, reverse=case.reverse)
        return h.real.astype(jnp.float32).sum() + last.real.sum()

    shapes = of("decay", full[2:] if case.constant else full), of("x", full), segments
    assert kernels_in(compile_for("h200", jax.grad(loss, (0, 1)), *shapes)) == 2


@pytest.mark.aot
@needs_mosaic
def test_on_a_mesh_each_gpu_runs_its_part():
    from jax.experimental import topologies

    mesh = topologies.make_mesh(topology("h200", 4), (2, 2), ("data", "tensor"))
    place = lambda shape, *spec: jax.ShapeDtypeStruct(
        shape, jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(*spec))
    )
    full, decay = place((4, 512, 512), "data", None, "tensor"), place((512,), "tensor")
    loss = lambda decay, x: linear_scan(decay, x)[0].sum()
    with jax.set_mesh(mesh):
        compiled = finish("h200", jax.jit(jax.grad(loss, (0, 1))).lower(decay, full))
    assert kernels_in(compiled) == 2
    assert "all-gather" not in compiled.as_text()
