"""XLA's CPU back end multiplies with what is there; see memjax/__init__.py."""

import os
import subprocess
import sys

import pytest

from memjax import _avoid_ynn_fusions

PROGRAM = """
import memjax.ops as ops
import jax
import jax.numpy as jnp

draw = lambda seed: jax.random.normal(jax.random.key(seed), (8, 63, 2, 32))
q, k, v, gate = (draw(seed) for seed in range(4))
gate = -jnp.abs(gate) / 16
program = jax.jit(lambda *x: ops.gated_linear_attention(*x, implementation="xla")[0]).lower(q, k, v, gate).compile()
assert "ynn" not in program.as_text(), "a fusion for YNNPACK"
expected = jax.jit(lambda *x: ops.gated_linear_attention(*x, implementation="reference")[0])(q, k, v, gate)
used = [jnp.full((size,), 1e30) for size in (2**12, 2**14, 2**16, 2**18)]
del used
assert jnp.abs(program(q, k, v, gate) - expected).max() < 1e-3
"""


def test_an_empty_memory_is_zero_with_the_flags_of_a_user():
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("XLA_FLAGS", "JAX_COMPIL"))}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "--xla_cpu_experimental_ynn_fusion_type="),
        ("--xla_foo=1", "--xla_foo=1 --xla_cpu_experimental_ynn_fusion_type="),
        ("--xla_cpu_experimental_ynn_fusion_type=x", "--xla_cpu_experimental_ynn_fusion_type=x"),
    ],
)
def test_flags_of_the_user_stay(monkeypatch, given, expected):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    if given is not None:
        monkeypatch.setenv("XLA_FLAGS", given)
    _avoid_ynn_fusions()
    assert os.environ["XLA_FLAGS"] == expected
