import jax.numpy as jnp
import pytest

from memjax.ops import gated_linear_attention
from memjax.ops.gated_linear_attention import pallas_gpu
from tests.ops.hopper import Case, check, needs_simulator

CASES = [
    Case(66, heads=2, groups=2, keys=100, values=60, gate="none"),
    Case(130, groups=2, strengths=(0.0, 1.0, 20.0, 50.0), packed=True),
    Case(70, gate="channel", strengths=(0.0, 0.01, 5.0, 50.0)),
]


@needs_simulator
@pytest.mark.parametrize("case", CASES, ids=str)
def test_simulated_values_and_gradients_equal_float64(case):
    check(gated_linear_attention, case)
