import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.ops import discretize
from tests.tolerances import assert_close

DT = [1e-7, 1e-5, 1e-3, 0.05, 0.0999, 0.1001, 1.0, 20.0]
# written so that float32 holds them exactly: the input's own rounding is no error of the op
DT = np.asarray(DT, np.float32).astype(np.float64)


def exact_zoh(a, dt):
    z = dt * a
    # 30 terms where the quotient would cancel
    series = sum(z**j / float(np.prod(np.arange(1.0, j + 2))) for j in range(30))
    with np.errstate(all="ignore"):
        return np.exp(z), dt * np.where(np.abs(z) < 1, series, (np.exp(z) - 1) / np.where(z == 0, 1, z))


@pytest.mark.parametrize("a", [-1.0, 0.0, -0.5, -0.5 + 3j, 7j, -0.25 + 100j])
def test_zoh_keeps_its_digits_at_every_step(a):
    for dt in DT:
        decay, gain = discretize.zoh(jnp.asarray([a]), jnp.asarray([dt], jnp.float32))
        # the phase of exp(i z) is known to eps |z|
        assert_close((decay, gain), tuple(map(np.atleast_1d, exact_zoh(a, dt))), factor=max(1, abs(a * dt) / 100))


@pytest.mark.parametrize("rule", [discretize.zoh, discretize.bilinear])
def test_steps_solve_the_equation(rule):
    """x' = a x + 1 from 0, up to time 2, is (exp(2a) - 1) / a; a thousand steps of either rule come close."""
    a = np.array([-1.0 + 2j, -0.3 + 0j])
    decay, gain = rule(jnp.asarray(a, jnp.complex64), jnp.full(2, 2e-3))
    x, decay, gain = np.zeros(2), np.asarray(decay), np.asarray(gain)
    for _ in range(1000):
        x = decay * x + gain
    np.testing.assert_allclose(x, np.expm1(2 * a) / a, rtol=1e-4)


def test_bilinear_by_hand():
    decay, gain = discretize.bilinear(jnp.array([-1.0, 0.0]), jnp.array([1.0, 0.25]))
    assert_close((decay, gain), (np.array([1 / 3, 1.0]), np.array([2 / 3, 0.25])))


@pytest.mark.parametrize("rule", [discretize.zoh, discretize.bilinear])
@pytest.mark.parametrize("z", [0.0, 1e-6, 1e-3, 0.09, 0.11, 2.0])
def test_gradients_are_finite_and_right(rule, z):
    """Against differences in float64, at dt = 1 and a = -z, 0 included."""
    loss = lambda a, dt: (lambda decay, gain: (decay + 2 * gain).sum())(*rule(a, dt))
    gradients = jax.grad(loss, (0, 1))(jnp.array([-z]), jnp.array([1.0]))
    with jax.enable_x64(True):
        at = lambda a, dt: float(loss(jnp.array([a]), jnp.array([dt])))
        h = 1e-5
        expected = (
            np.array([(at(-z + h, 1.0) - at(-z - h, 1.0)) / (2 * h)]),
            np.array([(at(-z, 1 + h) - at(-z, 1 - h)) / (2 * h)]),
        )
    assert_close(gradients, expected, gradient=True)


def test_low_precision_is_widened_and_shapes_broadcast():
    decay, gain = discretize.zoh(jnp.full((1, 4), -1, jnp.bfloat16), jnp.full((3, 1), 1e-3, jnp.bfloat16))
    assert decay.dtype == gain.dtype == jnp.float32 and decay.shape == gain.shape == (3, 4)
    assert (np.asarray(decay) < 1).all()
