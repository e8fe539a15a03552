import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memjax.mixers import HippoLegSConfig
from memjax.ops import hippo
from tests.tolerances import assert_close

pytestmark = pytest.mark.slow  # another of its kind stands for it in the second row of versions

call = jax.jit(lambda mixer, x, state=None, segment_ids=None: mixer(x, state, segment_ids=segment_ids))


def paper(mixer, x):
    """The cell with dense float64 matrices, A/k at token k from 1."""
    wide = lambda a: np.asarray(a[...], np.float64)
    both = lambda name, other, a, b: (
        a @ wide(getattr(mixer, name).kernel) + b @ wide(getattr(mixer, other).kernel)
    )  # W [a, b]
    n, x = mixer.order, np.asarray(x, np.float64)
    a, b = hippo.transition("legs", n)
    h, m = np.zeros((len(x), mixer.hidden)), np.zeros((len(x), mixer.config.features, n))
    out = []
    for k, token in enumerate(np.moveaxis(x, 1, 0), start=1):
        f = both("feature_input", "feature_hidden", token, h)
        theta = 0.5 if mixer.config.method == "bilinear" else 1.0
        right = m @ (np.eye(n) + (1 - theta) * a / k).T + f[..., None] * b / k
        m = right @ np.linalg.inv(np.eye(n) - theta * a / k).T
        flat = m.reshape(len(x), -1)
        candidate = np.tanh(both("candidate_input", "candidate_memory", token, flat) + wide(mixer.candidate_bias))
        g = 1 / (1 + np.exp(-both("gate_input", "gate_memory", token, flat) - wide(mixer.gate_bias)))
        h = (1 - g) * h + g * candidate
        out.append(h @ wide(mixer.output.kernel))
    return np.stack(out, 1), m, h


@pytest.mark.parametrize("method", ["bilinear", "backward_euler"])
def test_equals_the_papers_cell(method):
    mixer = HippoLegSConfig(hidden=6, memory_order=9, features=2, method=method).make(4, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 30, 4))
    y, state, _ = call(mixer, x)
    assert state.memory.shape == (2, 2, 9) and state.count.tolist() == [30, 30]
    assert_close((y, state.memory, state.hidden), paper(mixer, x))


def test_the_memory_holds_the_history_of_the_feature():
    """With W_f blind to h, the state is the projection of W_f x, and gives its whole course back."""
    mixer = HippoLegSConfig(memory_order=32).make(4, rngs=nnx.Rngs(0))
    mixer.feature_hidden.kernel[...] = jnp.zeros_like(mixer.feature_hidden.kernel[...])
    t = jnp.linspace(0, 1, 200)
    x = jnp.stack([jnp.sin(6 * t), jnp.cos(9 * t), t, 1 - t], -1)[None]
    memory = call(mixer, x).state.memory[0, 0]
    feature = mixer.feature_input(x)[0, :, 0]
    assert_close(memory, hippo.project(feature, 32)[-1])
    error = hippo.reconstruct(memory, t) - feature
    assert jnp.sqrt((error[5:] ** 2).mean()) < 0.05 * jnp.sqrt((feature**2).mean())


def test_the_clock_begins_anew_with_every_document():
    mixer = HippoLegSConfig().make(4, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 8, 4))
    ids = jnp.asarray([[1, 1, 1, 0, 2, 2, 0, 0], [0, 5, 5, 5, 5, 0, 6, 0]], jnp.int32)
    before = call(mixer, x).state
    assert call(mixer, x, before, ids).state.count.tolist() == [2, 1]
    assert call(mixer, x, before, jnp.where(ids == 5, 5, 0)).state.count.tolist() == [8, 12]


def test_sizes_default_to_the_width_and_impossible_ones_are_refused():
    mixer = HippoLegSConfig().make(12, rngs=nnx.Rngs(0))
    assert (mixer.hidden, mixer.order) == (12, 12)
    with pytest.raises(ValueError, match="memory_order=0"):
        HippoLegSConfig(memory_order=0).make(4, rngs=nnx.Rngs(0))
