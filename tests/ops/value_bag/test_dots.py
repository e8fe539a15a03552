"""`row_dots`: its numbers, its gradients, and what it holds."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import config as jaxtyping_config

from memjax.ops import row_dots, row_gradients
from tests.ops.value_bag.cases import CASES, as_float32, dots_by_hand, draw
from tests.tolerances import assert_close

MIB = 2**20


def everything(values, indices, x, cotangent, *, implementation=None):
    """The dots, the gradients of values and x, and the sparse gradient of values."""
    dots = lambda values, x: row_dots(values, indices, x, implementation=implementation)
    s, pull = jax.vjp(dots, values, x)
    return s, *pull(cotangent), row_gradients(indices, cotangent, x, values.shape[0])


def draw_dots(case, rng):
    """values, indices, x, and a cotangent of the dots."""
    values, indices, weights, x = draw(case, rng)
    return values, indices, x, weights


@pytest.mark.parametrize("case", CASES[:2], ids=str)
def test_values_and_gradients_equal_float64(case, rng):
    inputs = draw_dots(case, rng)
    *actual, (rows, sums) = jax.jit(everything)(*as_float32(inputs))
    expected = dots_by_hand(*inputs)
    assert_close(tuple(actual), expected, gradient=True)
    d_values = np.zeros_like(expected[1])
    d_values[rows[rows < case.rows]] = sums[rows < case.rows]
    assert_close(d_values, expected[1], dtype="float32", gradient=True)


def test_reference_equals_float64(rng):
    inputs = draw_dots(CASES[0], rng)
    with jax.enable_x64(True):
        *actual, _ = jax.jit(partial(everything, implementation="reference"))(*map(jnp.asarray, inputs))
        assert actual[0].dtype == jnp.float64
        assert_close(tuple(actual), dots_by_hand(*inputs), gradient=True)


def test_bfloat16_gives_float32(rng):
    """Only the gradients are rounded, once each, which is off by 1e-3 in the mean."""
    values, indices, x, cotangent = as_float32(draw_dots(CASES[0], rng))
    values, x = values.astype(jnp.bfloat16), x.astype(jnp.bfloat16)
    *actual, _ = jax.jit(everything)(values, indices, x, cotangent)
    assert [y.dtype for y in actual] == [jnp.float32, jnp.bfloat16, jnp.bfloat16]
    expected = dots_by_hand(np.asarray(values, float), np.asarray(indices), np.asarray(x, float), np.asarray(cotangent))
    assert_close(actual[0], expected[0])
    assert_close(tuple(actual[1:]), expected[1:], factor=0.1)


def test_nothing_holds_a_row_for_every_read():
    """M 65536, V 256, 1024 tokens, J 128, where [tokens, J, V] takes 128 MiB."""
    shapes = (
        ((65536, 256), jnp.float32),
        ((1024, 128), jnp.int32),
        ((1024, 256), jnp.float32),
        ((1024, 128), jnp.float32),
    )
    compiled = (
        jax.jit(lambda *x: everything(*x)[:3]).lower(*(jax.ShapeDtypeStruct(*shape) for shape in shapes)).compile()
    )
    assert compiled.memory_analysis().temp_size_in_bytes < 8 * MIB


def test_what_cannot_be_is_refused(monkeypatch):
    values, indices, x = jnp.zeros((5, 3)), jnp.zeros((4, 2), int), jnp.zeros((4, 3))
    with pytest.raises(NotImplementedError, match="pallas_gpu"):
        row_dots(values, indices, x, implementation="pallas_gpu")
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)  # outside of tests nothing checks the annotations
    with pytest.raises(ValueError, match="x has shape"):
        row_dots(values, indices, x[:, :2])
