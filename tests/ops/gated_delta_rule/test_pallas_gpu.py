import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import mosaic_gpu as plgpu

from memjax.ops import gated_delta_rule
from memjax.ops.gated_delta_rule import pallas_gpu
from tests.ahead_of_time import compile_for, kernels_in
from tests.ops.hopper import Case, check, compile_passes, needs_simulator, quick_compile, shapes, simulated
from tests.tolerances import relative_rms

CASES = [
    Case(66, keys=40, values=60, gate="none", beta=2.0, same_keys=True),
    Case(130, strengths=(0.0, 1.0, 50.0, 3.4028235e38), packed=True),
    Case(64, groups=2, keys=100, values=70, strengths=(0.01,)),
    Case(66, gate="channel", strengths=(0.0, 0.01, 50.0, 3.4028235e38)),
    Case(70, groups=2, keys=100, gate="channel", strengths=(0.0, 0.01, 1.0), beta=2.0, packed=True),
    Case(70, groups=2, keys=100, packed=True, dtype="float32"),
    Case(64, gate="channel", dtype="float32"),
]


@needs_simulator
@pytest.mark.parametrize("case", CASES, ids=str)
def test_simulated_values_and_gradients_equal_float64(case):
    check(gated_delta_rule, case)


@needs_simulator
def test_q_k_and_v_may_differ_in_dtype():
    check(gated_delta_rule, Case(64, gate="none", dtype="float32"), narrow="kv")


@needs_simulator
@pytest.mark.parametrize(
    "case", [Case(192, values=128), Case(128, keys=128, values=128, gate="channel", packed=True)], ids=str
)
def test_no_races_and_nothing_read_before_it_is_written(case, capfd):
    """In the simulator with its race detector and NaN in fresh memory; two slots, several chunks, tiles of K and V."""
    simulator = plgpu.InterpretGPUParams(detect_races=True, uninitialized_memory="nan")
    found = simulated(gated_delta_rule, case, simulator)
    assert len(found) == 8  # o, the state, six gradients
    assert all(bool(jnp.isfinite(x).all()) for x in found)
    assert "RACE" not in "".join(capfd.readouterr())


@needs_simulator
def test_the_inverse_of_equal_keys_is_as_float32_has_it(rng, capfd):
    """64 times one key with beta = 2, the worst of cancellation: two bfloat16 parts alone are off by 5e-4. Two tiles of
    key channels, with the race detector and NaN in fresh memory."""
    from memjax.ops.hopper import pairs

    key = rng.normal(size=128)
    k = jnp.broadcast_to(jnp.asarray(key / np.linalg.norm(key), jnp.bfloat16), (1, 1, 64, 1, 128))
    gate, documents, rows = jnp.zeros((1, 1, 1, 64)), jnp.zeros((1, 1, 64)), jnp.full((1, 1, 1, 4, 64), 2.0)
    simulator = plgpu.InterpretGPUParams(detect_races=True, uninitialized_memory="nan")
    with quick_compile():
        run = jax.jit(partial(pairs.matrices, inverse=True, scale=0.5, interpret=simulator))
        p, parts, inverse = run(k, k, gate, documents, rows)
    wide = np.asarray(k[0, 0, :, 0], float)
    gram = wide @ wide.T
    expected = np.linalg.inv(np.eye(64) + np.tril(2 * gram, -1))
    assert relative_rms(inverse[0, 0, 0], expected) < 1e-5
    assert relative_rms(parts[:, 0, 0, 0].astype(jnp.float32).sum(0), expected) < 2e-5
    assert relative_rms(p[:, 0, 0, 0].astype(jnp.float32).sum(0), np.tril(gram / 2)) < 1e-5
    assert "RACE" not in "".join(capfd.readouterr())


@needs_simulator
@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, None),
        ({"gate": "channel", "keys": 128}, None),
        ({"gate": "channel", "keys": 192}, "192 key channels and a gate each"),
        ({"keys": 256, "values": 512}, None),
        ({"keys": 320}, "up to 256"),
        ({"time": 32}, "no chunk"),
        ({"dtype": "float32", "keys": 128}, None),
        ({"dtype": "float32", "keys": 128, "gate": "channel"}, None),
        ({"dtype": "float32", "keys": 256}, "shared memory"),
        ({"dtype": "float64"}, "bfloat16 or float32"),
    ],
)
def test_refusals_name_what_does_not_fit(changed, reason):
    inputs = shapes(gated_delta_rule, Case(**{"time": 128} | changed))
    refusal = pallas_gpu.refusal(inputs)
    assert refusal is None if reason is None else reason in refusal


@pytest.mark.skipif(jax.__version_info__ >= (0, 11), reason="the kernel runs with this jax")
def test_an_older_jax_is_refused():
    inputs = shapes(gated_delta_rule, Case(128))
    assert "jax 0.11" in pallas_gpu.refusal(inputs)


@pytest.mark.aot
@needs_simulator
def test_compiles_for_a_hopper_gpu():
    """8192 tokens of 96 heads. Forward: the parts of P and X, 192 MiB each. Backward: states and their cotangents 768
    MiB each, the parts of E, W and dR 384 MiB each, and those of P and X (then of what comes back through them), of
    which one finds room in a gradient that is not yet written."""
    forward, backward = compile_passes(
        gated_delta_rule, Case(8192, heads=96, groups=96, keys=128, values=128, packed=True)
    )
    assert (kernels_in(forward), kernels_in(backward)) == (2, 5)
    assert forward.memory_analysis().temp_size_in_bytes <= 410 * 2**20
    assert backward.memory_analysis().temp_size_in_bytes <= 2910 * 2**20


@pytest.mark.aot
@needs_simulator
def test_a_gate_a_channel_compiles_for_a_hopper_gpu():
    """8192 tokens of 96 heads. Forward: q_in, k_in and k_out in two parts, 384 MiB each, and the parts of P and X.
    Backward: no more than under one gate a head, since what is decayed is dead when the cotangents come."""
    case = Case(8192, heads=96, groups=96, keys=128, values=128, gate="channel", packed=True)
    forward, backward = compile_passes(gated_delta_rule, case)
    assert (kernels_in(forward), kernels_in(backward)) == (2, 5)
    assert forward.memory_analysis().temp_size_in_bytes <= 1570 * 2**20
    assert backward.memory_analysis().temp_size_in_bytes <= 3130 * 2**20


@pytest.mark.aot
@needs_simulator
def test_the_largest_state_stays_in_registers(monkeypatch, capfd):
    """Of the kernels that go through the chunks: an address or two may leave the registers, before the loop. Without
    `tiles._part`, or with the blocks of a state put all at once, it is 170 to 1300 bytes a thread, within the loop."""
    from memjax.ops.hopper import frame, sequence

    bfloat16, float32 = (partial(jax.ShapeDtypeStruct, dtype=dtype) for dtype in ("bfloat16", "float32"))
    keys, matrix = bfloat16((1, 1, 1024, 1, 256)), bfloat16((2, 1, 1, 16, 64, 64))
    numbers = float32((1, 1, 16, 4, 64)), float32((1, 1, 16, 256))
    chunks = frame.Chunks(keys, keys, None, matrix, matrix, *numbers)
    monkeypatch.setenv("MOSAIC_GPU_DUMP_PTXAS", "1")
    for kernel in (partial(sequence.forward, wide=False), sequence.rebuild, sequence.reverse):
        run = partial(kernel, interpret=False)
        compile_for("h200", run, chunks, bfloat16((1, 1, 1024, 1, 256)), float32((1, 1, 256, 256)))
    spilled = re.findall(r"bytes stack frame, (\d+) bytes spill stores", "".join(capfd.readouterr()))
    assert len(spilled) == 3
    assert max(int(count) for count in spilled) <= 16
