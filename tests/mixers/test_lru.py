import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memjax.mixers import LRUConfig
from memjax.mixers.lru import draw_ring
from tests.tolerances import assert_close


def by_hand(mixer, x):
    """Section 3 of the paper, one step at a time in float64."""
    numbers = lambda parameter: np.asarray(parameter[...], np.float64)
    eigenvalue = np.exp(-np.exp(numbers(mixer.radius)) + 1j * np.exp(numbers(mixer.theta_log)))
    b, c = numbers(mixer.input.kernel), numbers(mixer.readout.kernel)
    p = len(eigenvalue)
    h, y = np.zeros((x.shape[0], p), complex), np.zeros(x.shape)
    for t in range(x.shape[1]):
        h = eigenvalue * h + np.exp(numbers(mixer.gamma_log)) * (x[:, t] @ (b[:, :p] + 1j * b[:, p:]))
        y[:, t] = (h @ (c[:p] - 1j * c[p:])).real + numbers(mixer.skip) * x[:, t]
    value, gate = np.split(np.asarray(jax.nn.gelu(y)) @ numbers(mixer.output.kernel), 2, axis=-1)
    return value / (1 + np.exp(-gate))


def test_it_is_the_papers_recurrence(rng):
    mixer = LRUConfig(state_size=5).make(3, rngs=nnx.Rngs(0))
    x = rng.normal(size=(2, 30, 3))
    y = jax.jit(lambda mixer, x: mixer(x).y)(mixer, jnp.asarray(x, jnp.float32))
    assert_close(y, by_hand(mixer, x))


def test_the_ring_is_uniform_in_area():
    log_modulus, phase = (np.asarray(a, np.float64) for a in draw_ring(jax.random.key(0), 4000, 0.4, 0.9, 0.3))
    square, grid = np.sort(np.exp(2 * log_modulus)), np.linspace(0, 1, 4000)
    assert np.abs((square - 0.4**2) / (0.9**2 - 0.4**2) - grid).max() < 0.03
    assert np.abs(np.sort(phase) / 0.3 - grid).max() < 0.03


def test_states_forget_nothing_of_their_size():
    """gamma makes a state driven by white noise as large as its input, however slow its decay."""
    mixer = LRUConfig(state_size=64, r_min=0.9, r_max=0.999).make(4, rngs=nnx.Rngs(0))
    modulus, gamma = np.abs(mixer.eigenvalues()), np.exp(mixer.gamma_log[...])
    np.testing.assert_allclose(gamma**2 / (1 - modulus.astype(np.float64) ** 2), 1, rtol=1e-3)


def test_every_reparameterization_begins_at_the_same_eigenvalues():
    draw = lambda kind: LRUConfig(state_size=512, reparameterization=kind).make(4, rngs=nnx.Rngs(0)).eigenvalues()
    for kind in ("direct", "softplus", "best"):
        np.testing.assert_allclose(draw(kind), draw("exp"), atol=2e-6)


def test_impossible_configs_are_refused():
    for config, word in (
        (LRUConfig(state_size=0), "state_size"),
        (LRUConfig(r_min=0.9, r_max=0.5), "r_min"),
        (LRUConfig(max_phase=0.0), "max_phase"),
    ):
        with pytest.raises(ValueError, match=word):
            config.make(4, rngs=nnx.Rngs(0))
