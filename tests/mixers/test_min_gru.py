import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memjax.layers import positive
from memjax.mixers import MinGRUConfig
from tests.tolerances import assert_close

pytestmark = pytest.mark.slow  # another of its kind stands for it in the second row of versions

call = jax.jit(lambda mixer, x, state=None: mixer(x, state))


def sigmoid(u):
    return 1 / (1 + np.exp(-u))


def paper(mixer, x, linear):
    """Section 3.1, a step a token in float64."""
    matrix = lambda layer: np.asarray(layer.kernel[...], np.float64)
    h, out = np.zeros((x.shape[0], mixer.channels)), []
    for token in np.moveaxis(np.asarray(x, np.float64), 1, 0):
        z = sigmoid(token @ matrix(mixer.update) + np.asarray(mixer.update_bias[...], np.float64))
        u = token @ matrix(mixer.candidate)
        h = (1 - z) * h + z * (u if linear else np.where(u >= 0, u + 0.5, sigmoid(u)))
        out.append(h @ matrix(mixer.output))
    return np.stack(out, 1), h


@pytest.mark.parametrize("activation", ["positive", "linear"])
def test_equals_the_papers_recurrence(activation):
    config = MinGRUConfig(expansion=1.5, activation=activation, update_bias=-1.0)
    mixer = config.make(8, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 40, 8))
    out = call(mixer, x)
    assert mixer.channels == 12 and out.state.hidden.shape == (2, 12)
    assert_close((out.y, out.state.hidden), paper(mixer, x, activation == "linear"))


def test_the_activation_is_positive_and_continuous():
    x = jnp.linspace(-20.0, 20.0, 401)
    assert (positive(x) > 0).all() and np.abs(np.diff(positive(x))).max() <= 0.1 + 1e-5
    np.testing.assert_allclose(positive(jnp.asarray([-1.0, 0.0, 2.0])), [sigmoid(-1.0), 0.5, 2.5], rtol=1e-6)


def test_a_closed_gate_keeps_the_state_and_an_open_one_replaces_it():
    mixer = lambda bias: MinGRUConfig(update_bias=bias).make(8, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (1, 5, 8))
    before = call(mixer(0.0), x).state
    assert_close(call(mixer(-200.0), x, before).state, before)
    assert_close(call(mixer(200.0), x, before).state, call(mixer(200.0), x[:, -1:]).state)


def test_an_impossible_expansion_is_refused():
    with pytest.raises(ValueError, match="expansion=0"):
        MinGRUConfig(expansion=0.0).make(8, rngs=nnx.Rngs(0))
