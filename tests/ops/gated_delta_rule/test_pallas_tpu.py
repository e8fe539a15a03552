import jax.numpy as jnp
import pytest

from memjax.ops import gated_delta_rule
from memjax.ops.gated_delta_rule import pallas_tpu, xla
from tests.ahead_of_time import TPUS, compile_for, kernels_in
from tests.ops import matrix_memory_kernels as proofs
from tests.ops.few import by_case
from tests.ops.matrix_memory import Case, check
from tests.ops.pallas import assert_float32_dots_are_exact, tpu_kernels

CASES = [
    Case(1, gate="none"),
    Case(130, batch=2, heads=1, groups=2, values=24, strengths=(0.01, 50.0), packed=True),
    Case(65, gate="channel", strengths=(0.01, 1.0, 50.0)),
    Case(65, heads=2, groups=2, keys=60, values=100, beta=2.0, same_keys=True, dtype="bfloat16"),
    Case(260, gate="channel", batch=2, packed=True),
    Case(513, keys=256, values=130, strengths=(0.0, 5.0)),
]
FAST = (1,)  # numbers of cases that the second row of versions runs; XLA of jax 0.11 takes minutes for a gate a channel


@by_case(CASES, FAST)
def test_values_and_gradients_equal_float64(case):
    check(gated_delta_rule, case, "pallas_tpu")


def test_no_race_and_nothing_read_that_was_not_written():
    proofs.check_in_the_tpu_interpreter(gated_delta_rule, pallas_tpu, xla, Case(130, heads=1, groups=2, packed=True))


def test_eight_devices_are_one():
    case = Case(65, batch=4, heads=2, groups=4)
    proofs.check_eight_devices_are_one(gated_delta_rule, "pallas_tpu", case)


def test_heads_that_the_mesh_does_not_divide_stay_together():
    case = Case(20, batch=3, heads=1, groups=2)
    proofs.check_eight_devices_are_one(gated_delta_rule, "pallas_tpu", case)


def test_products_of_states_and_inverses_have_full_precision():
    inputs = proofs.at_shape(gated_delta_rule, 1, 64, 1, 1, 128, 128)
    assert_float32_dots_are_exact(proofs.gradient(gated_delta_rule, implementation="pallas_tpu"), *inputs)


def test_what_it_cannot_serve_is_refused():
    x = jnp.zeros((1, 4, 1, 8))
    with pytest.raises(NotImplementedError, match="keys of 8 and values of 300, it takes up to 256; use 'xla' or None"):
        gated_delta_rule(x, x, jnp.zeros((1, 4, 1, 300)), None, jnp.zeros((1, 4, 1)), implementation="pallas_tpu")


MIB = 2**20
# Temporary memory of the gradient: states [T / 64, H, K, V] and inverses [T, H, 64] in float32, what lies in VMEM left
# out, and copies of inputs and outputs in the layout of the kernel.
PLANS = [
    *[(chip, (1, 8192, 96, 96, 128, 128), "scalar", 2600) for chip in TPUS],
    ("v5e", (2, 4096, 4, 8, 128, 128), "channel", 190),
    ("v5p", (8, 2048, 32, 32, 256, 256), "scalar", 4750),
    ("v6e", (8, 1024, 8, 8, 64, 64), "scalar", 250),
]


@pytest.mark.aot
@pytest.mark.parametrize(("chip", "shape", "gate", "mib"), PLANS, ids=str)
def test_it_compiles_and_takes_the_memory_that_was_planned(chip, shape, gate, mib):
    inputs = proofs.at_shape(gated_delta_rule, *shape, gate)
    compiled = compile_for(chip, proofs.gradient(gated_delta_rule), *inputs)
    assert kernels_in(compiled) == 3  # forward, the states again, backward
    assert compiled.memory_analysis().temp_size_in_bytes <= mib * MIB
    assert all(b"contract_precision<fp32>" in kernel for kernel in tpu_kernels(compiled))
