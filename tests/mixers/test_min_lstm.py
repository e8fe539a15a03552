import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memjax.mixers import MinLSTMConfig
from tests.tolerances import assert_close

pytestmark = pytest.mark.slow  # another of its kind stands for it in the second row of versions

call = jax.jit(lambda mixer, x, state=None: mixer(x, state))


def sigmoid(u):
    return 1 / (1 + np.exp(-u))


def paper(mixer, x, linear):
    """Section 3.2, a step a token in float64."""
    wide = lambda a: np.asarray(a[...], np.float64)
    h, out = np.zeros((x.shape[0], mixer.channels)), []
    for token in np.moveaxis(np.asarray(x, np.float64), 1, 0):
        f = sigmoid(token @ wide(mixer.forget.kernel) + wide(mixer.forget_bias))
        i = sigmoid(token @ wide(mixer.write.kernel) + wide(mixer.write_bias))
        u = token @ wide(mixer.candidate.kernel)
        h = f / (f + i) * h + i / (f + i) * (u if linear else np.where(u >= 0, u + 0.5, sigmoid(u)))
        out.append(h @ wide(mixer.output.kernel))
    return np.stack(out, 1), h


@pytest.mark.parametrize("activation", ["positive", "linear"])
def test_equals_the_papers_recurrence(activation):
    config = MinLSTMConfig(expansion=1.5, activation=activation, forget_bias=1.0)
    mixer = config.make(8, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 40, 8))
    out = call(mixer, x)
    assert out.state.hidden.shape == (2, 12)
    assert_close((out.y, out.state.hidden), paper(mixer, x, activation == "linear"))


def test_two_closed_gates_still_share_what_they_pass():
    """f and i are both 0 in float32, and float64 knows their quotient."""
    mixer = MinLSTMConfig(forget_bias=-200.0).make(8, rngs=nnx.Rngs(0))
    mixer.write_bias[...] = jnp.full_like(mixer.write_bias[...], -200.5)
    x = jax.random.normal(jax.random.key(0), (1, 6, 8))
    assert_close(call(mixer, x).y, paper(mixer, x, linear=False)[0], factor=10)  # 200 takes digits from the logarithms


def test_an_impossible_expansion_is_refused():
    with pytest.raises(ValueError, match="expansion=-1"):
        MinLSTMConfig(expansion=-1.0).make(8, rngs=nnx.Rngs(0))
