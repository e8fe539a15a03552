import jax
import numpy as np
import pytest
from flax import nnx

from memjax.mixers import BaseConvConfig
from tests.tolerances import assert_close


def test_equals_the_papers_equation():
    mixer = BaseConvConfig(conv_width=4).make(8, rngs=nnx.Rngs(0))
    mixer.gate_bias[...] = jax.random.normal(jax.random.key(1), (8,))
    x = jax.random.normal(jax.random.key(0), (2, 20, 8))
    out = jax.jit(lambda mixer, x: mixer(x))(mixer, x)
    numbers = lambda leaf: np.asarray(leaf[...], np.float64)
    u, h = np.asarray(x, np.float64), numbers(mixer.conv.kernel)
    before = np.concatenate([np.zeros((2, 3, 8)), u], 1)
    filtered = sum(h[3 - lag] * before[:, 3 - lag : 23 - lag] for lag in range(4)) + numbers(mixer.conv.bias)
    assert_close(out.y, (u @ numbers(mixer.gate.kernel) + numbers(mixer.gate_bias)) * filtered)
    assert_close(out.state.conv, u[:, -3:])


def test_a_filter_of_one_tap_remembers_nothing():
    mixer = BaseConvConfig(conv_width=1).make(8, rngs=nnx.Rngs(0))
    assert mixer.init_state(2).conv.shape == (2, 0, 8)


def test_an_impossible_filter_is_refused():
    with pytest.raises(ValueError, match="conv_width=0"):
        BaseConvConfig(conv_width=0).make(8, rngs=nnx.Rngs(0))
