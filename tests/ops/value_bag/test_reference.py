import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import config as jaxtyping_config

from memjax.ops import row_gradients, value_bag
from tests.ops.value_bag.cases import CASES, by_hand, draw
from tests.tolerances import assert_close


@pytest.mark.parametrize("case", CASES[:1], ids=str)
def test_values_and_gradients_equal_float64(case, rng):
    inputs = draw(case, rng)
    values, indices, weights, cotangent = map(jnp.asarray, inputs)
    with jax.enable_x64(True):
        values, weights, cotangent = (jnp.asarray(inputs[i]) for i in (0, 2, 3))
        bag = lambda values, weights: value_bag(values, indices, weights, implementation="reference")
        o, pull = jax.vjp(bag, values, weights)
        assert_close((o, *pull(cotangent)), by_hand(*inputs), gradient=True)


def test_what_cannot_be_is_refused(monkeypatch):
    values, indices, weights = jnp.zeros((5, 3)), jnp.zeros((4, 2), int), jnp.zeros((4, 2))
    with pytest.raises(NotImplementedError, match="pallas_tpu"):
        value_bag(values, indices, weights, implementation="pallas_tpu")
    with pytest.raises(ValueError, match="table of 0 rows"):
        value_bag(values[:0], indices, weights)
    with pytest.raises(ValueError, match="table of 0 rows"):
        row_gradients(indices, weights, jnp.zeros((4, 3)), 0)
    with pytest.raises(ValueError, match="indices has shape"):
        value_bag(values, indices[:, :0], weights[:, :0])
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)  # outside of tests nothing checks the annotations
    with pytest.raises(ValueError, match="unknown implementation"):
        value_bag(values, indices, weights, implementation="quick")
    with pytest.raises(ValueError, match="weights has shape"):
        value_bag(values, indices, weights[:, :1])
    with pytest.raises(ValueError, match="cotangent has shape"):
        row_gradients(indices, weights, jnp.zeros((3, 3)), 5)


@pytest.mark.parametrize("implementation", ["reference", "xla"])
def test_no_tokens_give_no_output(implementation):
    values, indices, weights = jnp.ones((5, 3)), jnp.zeros((0, 2), int), jnp.zeros((0, 2))
    bag = lambda values: value_bag(values, indices, weights, implementation=implementation)
    o, gradient = jax.jit(lambda values: (bag(values), jax.grad(lambda values: bag(values).sum())(values)))(values)
    assert o.shape == (0, 3)
    np.testing.assert_array_equal(gradient, jnp.zeros((5, 3)))
    rows, sums = jax.eval_shape(lambda: row_gradients(indices, weights, o, 5))
    assert (rows.shape, sums.shape) == ((0,), (0, 3))
