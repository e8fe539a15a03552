"""The TPU kernel: interpreted against float64, and compiled for the chips."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import topologies
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import NamedSharding, PartitionSpec

from memjax.ops import linear_scan
from memjax.ops.linear_scan import pallas_tpu, tiling, xla
from tests.ahead_of_time import TPUS, compile_for, kernels_in, topology
from tests.ops.few import by_case
from tests.ops.linear_scan.cases import ALL, Case, check, draw
from tests.tolerances import assert_close, relative_rms

run = functools.partial(linear_scan, implementation="pallas_tpu")
CASES = [
    Case(1, constant=True, reverse=True, complex=ALL),
    Case(130, packed=True),
    Case(65, width=130, batch=1, reverse=True),
    Case(130, constant=True, packed=True, reverse=True, moduli=(0.999, 1.0)),
    Case(70, packed=True, complex=ALL),
    Case(63, reverse=True, complex=("decay",)),
    Case(130, dtype="bfloat16", packed=True, reverse=True),
]
FAST = (1, 4)  # numbers of cases that the second row of versions runs


@by_case(CASES, FAST)
def test_values_and_gradients_equal_float64(case, monkeypatch):
    monkeypatch.setattr(tiling, "tpu", lambda batch, time, width, bytes_each: tiling.Blocks(64, min(width, 128)))
    check(case, run)


def test_no_races_and_nothing_read_that_was_not_written(monkeypatch, rng):
    """The interpreter that keeps TPU memory as it is, everything not yet written being NaN."""
    monkeypatch.setattr(tiling, "tpu", lambda batch, time, width, bytes_each: tiling.Blocks(64, 128))
    decay, x, d_h = (jnp.asarray(rng.uniform(-1, 1, (1, 140, 200)), jnp.float32) for _ in range(3))
    state, d_last = (jnp.asarray(rng.normal(size=(1, 200)), jnp.float32) for _ in range(2))
    marks = jnp.asarray(rng.choice(3, size=(1, 140), p=(0.8, 0.1, 0.1)), jnp.int32)
    how = {"interpret": pltpu.InterpretParams(detect_races=True, uninitialized_memory="nan"), "reverse": True}
    h, last = pallas_tpu.forward(decay, x, state, marks, **how)
    gradients = pallas_tpu.backward(decay, h, state, marks, d_h, d_last, **how)
    blocked = {"reverse": True, "tiling": tiling.Tiling("blocked")}
    assert_close((h, last), xla.forward(decay, x, state, marks, **blocked))
    assert_close(gradients, xla.backward(decay, h, state, marks, d_h, d_last, **blocked), gradient=True)


@pytest.mark.parametrize("kind", ["normal", "equal"])
def test_65536_tokens_keep_their_digits(kind, rng):
    """Forward, and backward of a constant decay, whose gradient sums over all tokens."""
    decays = np.asarray([0.9, 0.999, 1.0, 0.999999], np.float32)
    x = (rng.normal(size=(1, 65536, 4)) if kind == "normal" else np.full((1, 65536, 4), 0.1)).astype(np.float32)
    expected, state = np.zeros(x.shape), np.zeros((1, 4))
    for t in range(x.shape[1]):
        expected[:, t] = state = decays.astype(np.float64) * state + x[:, t]
    arguments = jnp.asarray(decays)[None, None], jnp.asarray(x), jnp.zeros((1, 4)), None
    actual, _ = pallas_tpu.forward(*arguments, reverse=False, interpret=True)
    errors = [relative_rms(actual[..., i], expected[..., i]) for i in range(4)]
    assert all(error <= limit for error, limit in zip(errors, [2e-5, 2e-5, 2e-5, 3e-4], strict=True)), errors


@pytest.mark.parametrize("constant", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_eight_devices_equal_one(constant, rng):
    inputs = draw(Case(70, batch=4, width=4, constant=constant), rng)
    decay, x, state = (jnp.asarray(value, jnp.float32) for value in inputs.values())
    marks = jnp.asarray(rng.choice([1, 2, 2, 0], size=(4, 70)).cumsum(1) // 9, jnp.int32)

    def objective(decay, x, state):
        h, last = run(decay, x, initial_state=state, segment_ids=marks)
        return (h**2).sum() + (last**3).sum()

    gradient = lambda: jax.jit(jax.value_and_grad(objective, (0, 1, 2)))(decay, x, state)
    alone = jax.tree.map(np.asarray, gradient())
    mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 3)
    with jax.set_mesh(mesh):
        assert_close(jax.tree.map(np.asarray, gradient()), alone, gradient=True)


@pytest.mark.parametrize("implementation", [None, pytest.param("pallas_tpu", marks=pytest.mark.slow)])
def test_vmap_and_shard_map_around_the_op(implementation, rng):
    inputs = draw(Case(66, batch=2), rng)
    decay, x = (jnp.asarray(inputs[n], jnp.float32)[:, None] for n in ("decay", "x"))
    loss = lambda decay, x: (linear_scan(decay, x, implementation=implementation)[0] ** 2).sum()
    gradient = jax.grad(loss, (0, 1))
    whole = jax.jit(gradient)(decay[:, 0], x[:, 0])
    mapped = jax.jit(jax.vmap(gradient))(decay, x)
    assert_close([np.asarray(g[:, 0]) for g in mapped], [np.asarray(g) for g in whole], gradient=True)
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = PartitionSpec("rows")
    # jax's own interpreter of kernels does not pass its check of what varies
    checks = implementation is None
    by_hand = jax.shard_map(gradient, mesh=mesh, in_specs=(spec, spec), out_specs=(spec, spec), check_vma=checks)
    assert_close(jax.tree.map(np.asarray, jax.jit(by_hand)(decay[:, 0], x[:, 0])), whole, gradient=True)


def test_what_it_refuses():
    x = jnp.zeros((1, 70, 2))
    with pytest.raises(NotImplementedError, match="x is float16"):
        run(x, x.astype(jnp.float16))
    with jax.enable_x64(True), pytest.raises(NotImplementedError, match="not in float64"):
        run(x.astype(jnp.float64), x)


def test_none_leaves_short_sequences_to_xla():
    assert tiling.too_short(63)
    assert tiling.too_short(64) is None


@pytest.mark.aot
def test_on_a_mesh_each_chip_runs_its_part():
    """XLA cannot partition a kernel, which an interpreted run does not show."""
    mesh = topologies.make_mesh(topology("v5e"), (2, 2), ("data", "tensor"))
    place = lambda shape, *spec: jax.ShapeDtypeStruct(
        shape, jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(*spec))
    )
    full, decay = place((4, 512, 512), "data", None, "tensor"), place((512,), "tensor")
    loss = lambda decay, x: linear_scan(decay, x)[0].sum()
    with jax.set_mesh(mesh):
        compiled = jax.jit(jax.grad(loss, (0, 1))).lower(decay, full).compile()
    assert kernels_in(compiled) == 2
    assert "all-gather" not in compiled.as_text()


SHAPES = {"wide": (4, 4096, 1024), "narrow": (16, 256, 128), "one row": (1, 65536, 2560)}


def _memory(chip, function, *shapes):
    compiled = compile_for(chip, function, *shapes)
    assert kernels_in(compiled) == 1
    return compiled.memory_analysis()


@pytest.mark.aot
@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("chip", TPUS)
def test_a_kernel_passes_over_memory_once(chip, dtype, shape):
    """Arguments and results are the floor, forward 3 arrays and backward 5, and beside them there is next to nothing:
    what a row of the batch begins and ends with, in another layout."""
    full, narrow = jax.ShapeDtypeStruct(shape, "float32"), jax.ShapeDtypeStruct(shape, dtype)
    row = jax.ShapeDtypeStruct((shape[0], shape[2]), "float32")
    small = 64 * 4 * 8 * shape[2]
    forward = functools.partial(pallas_tpu.forward, marks=None, reverse=False)
    plan = _memory(chip, lambda decay, x, state: forward(decay, x, state), full, narrow, row)
    floor = full.size * 4 + 2 * narrow.size * narrow.dtype.itemsize
    assert plan.argument_size_in_bytes + plan.output_size_in_bytes <= floor + small
    assert plan.temp_size_in_bytes <= small
    backward = lambda decay, h, state, d_h, d_last: pallas_tpu.backward(
        decay, h, state, None, d_h, d_last, reverse=False
    )
    plan = _memory(chip, backward, full, narrow, row, narrow, row)
    floor = 2 * full.size * 4 + 3 * narrow.size * narrow.dtype.itemsize
    assert plan.argument_size_in_bytes + plan.output_size_in_bytes <= floor + small
    assert plan.temp_size_in_bytes <= small


OTHERS = [
    Case(1000, batch=3, width=600),
    Case(1000, batch=3, width=600, reverse=True, dtype="bfloat16"),
    Case(100, batch=3, width=64, constant=True),
    Case(2048, batch=4, width=512, packed=True),
    Case(2048, width=512, complex=ALL, packed=True),
    Case(2048, width=512, complex=ALL, constant=True, reverse=True),
]


@pytest.mark.aot
@pytest.mark.parametrize("case", OTHERS, ids=str)
@pytest.mark.parametrize("chip", ["v5e", *(pytest.param(chip, marks=pytest.mark.slow) for chip in ("v5p", "v6e"))])
def test_other_shapes_and_numbers_compile_with_none(chip, case):
    of = lambda name, shape: jax.ShapeDtypeStruct(
        shape, "complex64" if name in case.complex else case.dtype if name == "x" else "float32"
    )
    full = (case.batch, case.time, case.width)
    segments = jax.ShapeDtypeStruct(full[:2], "int32") if case.packed else None

    def loss(decay, x, segments):
        h, last = linear_scan(decay, x, segment_ids=segments, reverse=case.reverse)
        return h.real.astype(jnp.float32).sum() + last.real.sum()

    shapes = of("decay", full[2:] if case.constant else full), of("x", full), segments
    assert kernels_in(compile_for(chip, jax.grad(loss, (0, 1)), *shapes)) == 2
