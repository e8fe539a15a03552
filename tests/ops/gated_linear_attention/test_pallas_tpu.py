import pytest

from memjax.ops import gated_linear_attention
from memjax.ops.gated_linear_attention import pallas_tpu, xla
from tests.ahead_of_time import TPUS, compile_for, kernels_in
from tests.ops import matrix_memory_kernels as proofs
from tests.ops.few import by_case
from tests.ops.matrix_memory import Case, check
from tests.ops.pallas import assert_float32_dots_are_exact, tpu_kernels

CASES = [
    Case(1, gate="none"),
    Case(130, batch=2, heads=1, groups=2, values=24, strengths=(0.01, 50.0), packed=True),
    Case(65, gate="channel", strengths=(0.01, 1.0, 50.0)),
    Case(65, heads=2, groups=2, keys=60, values=100, dtype="bfloat16"),
]
FAST = (1,)  # numbers of cases that the second row of versions runs; XLA of jax 0.11 takes minutes for a gate a channel


@by_case(CASES, FAST)
def test_values_and_gradients_equal_float64(case):
    check(gated_linear_attention, case, "pallas_tpu")


def test_no_race_and_nothing_read_that_was_not_written():
    proofs.check_in_the_tpu_interpreter(
        gated_linear_attention, pallas_tpu, xla, Case(130, heads=1, groups=2, packed=True)
    )


def test_eight_devices_are_one():
    case = Case(65, batch=4, heads=2, groups=4)
    proofs.check_eight_devices_are_one(gated_linear_attention, "pallas_tpu", case)


def test_products_of_states_have_full_precision():
    inputs = proofs.at_shape(gated_linear_attention, 1, 64, 1, 1, 128, 128)
    assert_float32_dots_are_exact(proofs.gradient(gated_linear_attention, implementation="pallas_tpu"), *inputs)


MIB = 2**20
# Temporary memory of the gradient: states [T / 64, H, K, V] in float32, what lies in VMEM left out, and copies of
# inputs and outputs in the layout of the kernel.
PLANS = [
    *[(chip, (1, 8192, 96, 96, 128, 128), "scalar", 2200) for chip in TPUS],
    ("v5e", (2, 4096, 4, 8, 128, 128), "channel", 155),
]


@pytest.mark.aot
@pytest.mark.parametrize(("chip", "shape", "gate", "mib"), PLANS, ids=str)
def test_it_compiles_and_takes_the_memory_that_was_planned(chip, shape, gate, mib):
    inputs = proofs.at_shape(gated_linear_attention, *shape, gate)
    compiled = compile_for(chip, proofs.gradient(gated_linear_attention), *inputs)
    assert kernels_in(compiled) == 3  # forward, the states again, backward
    assert compiled.memory_analysis().temp_size_in_bytes <= mib * MIB
    assert all(b"contract_precision<fp32>" in kernel for kernel in tpu_kernels(compiled))
