import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.ops import gated_linear_attention
from memjax.ops.gated_linear_attention import pallas_gpu
from tests.ahead_of_time import kernels_in
from tests.ops.hopper import Case, check, compile_passes, draw, needs_simulator, shapes

CASES = [
    Case(66, batch=2, keys=100, values=60, gate="none"),
    Case(130, heads=2, groups=4, strengths=(0.0, 1.0, 50.0, 3.4028235e38), packed=True),
    Case(66, gate="channel", strengths=(0.0, 0.01, 50.0, 3.4028235e38)),
    Case(66, batch=2, strengths=(0.0, 1.0, 20.0), dtype="float32"),
    Case(66, groups=2, keys=255, gate="channel", strengths=(0.0, 0.01, 1.0), packed=True),
]


@needs_simulator
@pytest.mark.parametrize("case", CASES, ids=str)
def test_simulated_values_and_gradients_equal_float64(case):
    check(gated_linear_attention, case)


@needs_simulator
@pytest.mark.parametrize(
    ("changed", "pieces"),
    [
        ({}, 1),
        ({"keys": 256}, 1),
        ({"keys": 256, "dtype": "float32"}, 2),
        ({"keys": 192, "gate": "channel"}, 1),
        ({"keys": 256, "gate": "channel"}, 2),
        ({"keys": 600}, 3),
    ],
)
def test_keys_are_cut_into_as_few_pieces_as_fit(changed, pieces):
    from memjax.ops.hopper.pieces import count

    case = Case(**{"time": 128} | changed)
    inputs = shapes(gated_linear_attention, case)
    assert pallas_gpu.refusal(inputs) is None
    assert count(*inputs[:3], by_channel=case.gate == "channel", delta=False) == pieces


@needs_simulator
def test_vmap_adds_rows_to_the_grid(rng):
    inputs = draw(gated_linear_attention, Case(64, batch=2, gate="none"), rng)
    q, k, v = (jnp.asarray(inputs[n], jnp.bfloat16)[:, None] for n in "qkv")
    state = jnp.asarray(inputs["initial_state"], jnp.float32)[:, None]
    run = lambda q, k, v, state: pallas_gpu.forward(q, k, v, None, state, None, scale=0.1, interpret=True)
    mapped = jax.jit(jax.vmap(run))(q, k, v, state)
    for n in range(2):
        jax.tree.map(lambda x, y, n=n: np.testing.assert_array_equal(x[n], y), mapped, run(q[n], k[n], v[n], state[n]))


@needs_simulator
def test_every_branch_is_traced_on_a_mesh_of_cpus():
    """What `implementation=None` does: the kernel is traced, not run, inside a checked shard_map and under a mesh."""
    inputs = shapes(gated_linear_attention, Case(64, batch=8))
    arrays = [jnp.zeros(x.shape, x.dtype) for x in (*inputs, jax.ShapeDtypeStruct((8, 1, 64, 64), jnp.float32))]

    def run(q, k, v, log_decay, state):
        kernel = lambda *x: pallas_gpu.forward(*x, None, scale=0.1, interpret=False)
        d_kernel = lambda *x: pallas_gpu.backward(*x, None, x[2], x[4], scale=0.1, interpret=False)
        given = (q, k, v, log_decay, state)
        forward = jax.lax.platform_dependent(*given, cpu=lambda *x: (x[2], x[4]), cuda=kernel)
        return forward, jax.lax.platform_dependent(*given, cpu=lambda *x: x, cuda=d_kernel)

    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("data")
    jax.jit(jax.shard_map(run, mesh=mesh, in_specs=spec, out_specs=spec))(*arrays)
    with jax.set_mesh(mesh):
        jax.jit(run)(*arrays)


@pytest.mark.aot
@needs_simulator
def test_the_largest_state_compiles_for_a_hopper_gpu():
    """2048 tokens, 8 rows of 32 heads. Forward: the parts of P, 128 MiB. Backward: states and their cotangents 2 GiB
    each, rows of 256 MiB."""
    forward, backward = compile_passes(
        gated_linear_attention, Case(2048, batch=8, heads=32, groups=32, keys=256, values=256, gate="none")
    )
    assert (kernels_in(forward), kernels_in(backward)) == (2, 5)
    assert forward.memory_analysis().temp_size_in_bytes <= 145 * 2**20
    assert backward.memory_analysis().temp_size_in_bytes <= 4755 * 2**20


@pytest.mark.aot
@needs_simulator
def test_float32_inputs_compile_for_a_hopper_gpu():
    """Mamba2's layer: 16 heads of 64 with one B and C for all. Forward: v and P in parts, 64 MiB each, q and k 8.
    Backward: d_q and d_k of all heads, states and their cotangents 128 MiB each, v, d_o, d_v and P in parts 64."""
    case = Case(2048, batch=8, groups=16, keys=128, dtype="float32")
    forward, backward = compile_passes(gated_linear_attention, case)
    assert (kernels_in(forward), kernels_in(backward)) == (2, 5)
    assert forward.memory_analysis().temp_size_in_bytes <= 155 * 2**20
    assert backward.memory_analysis().temp_size_in_bytes <= 725 * 2**20


@pytest.mark.aot
@needs_simulator
def test_a_gate_a_channel_for_grouped_heads_compiles_for_a_hopper_gpu():
    """q and k are decayed before the pass in sequence: two operands of two parts a value head, 32 MiB each, and the
    parts of P, 16 MiB. Backward: states and their cotangents, gradients of q and k, 32 MiB each."""
    case = Case(2048, batch=2, heads=4, groups=16, keys=128, values=64, gate="channel")
    forward, backward = compile_passes(gated_linear_attention, case)
    assert (kernels_in(forward), kernels_in(backward)) == (2, 5)
    assert forward.memory_analysis().temp_size_in_bytes <= 85 * 2**20
    assert backward.memory_analysis().temp_size_in_bytes <= 150 * 2**20
