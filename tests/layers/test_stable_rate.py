import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.layers import stable_rate

KINDS = ("direct", "exp", "softplus", "best")


@pytest.mark.parametrize("kind", KINDS)
def test_the_initial_weight_gives_back_the_rate(kind):
    real = -np.asarray([1e-3, 0.5, 1.9])
    weight = jnp.asarray(stable_rate.weight_of_real_part(real, kind), jnp.float32)
    np.testing.assert_allclose(stable_rate.real_part(weight, kind), real, rtol=1e-5)
    weight = stable_rate.weight_of_log_modulus(jnp.asarray(real, jnp.float32), kind)
    np.testing.assert_allclose(stable_rate.modulus(weight, kind), np.exp(real), rtol=1e-6)


def test_all_but_direct_are_stable_at_every_weight():
    weight = jnp.linspace(-8.0, 8.0, 33)
    for kind in KINDS[1:]:
        assert np.all(np.asarray(stable_rate.real_part(weight, kind)) < 0), kind
        assert np.all(np.abs(stable_rate.modulus(weight, kind)) <= 1), kind
    assert stable_rate.real_part(weight, "direct").max() > 0


def test_best_makes_the_gradient_bound_linear_in_the_weight():
    """|f'| / f^2 of equation (15) of arXiv 2311.14495 is 2 a |w| for f = -1 / (a w^2 + b), and discretely alike."""
    weight = jnp.linspace(0.1, 50.0, 20)
    for f in (lambda w: -stable_rate.real_part(w, "best"), lambda w: 1 - stable_rate.modulus(w, "best")):
        bound = np.abs(jax.vmap(jax.grad(f))(weight)) / np.asarray(f(weight)) ** 2
        np.testing.assert_allclose(bound, 2 * weight, rtol=2e-3)  # 1 - modulus has lost four digits at w = 50


def test_rates_out_of_reach_are_refused():
    with pytest.raises(ValueError, match="best"):
        stable_rate.weight_of_real_part(np.asarray([-64.0]), "best")
