import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memjax.mixers import GLAConfig
from tests.tolerances import assert_close

pytestmark = pytest.mark.slow  # another of its kind stands for it in the second row of versions


def test_equals_the_papers_recurrence(rng):
    mixer = GLAConfig(heads=2, gate_normalizer=2.0).make(16, rngs=nnx.Rngs(0))
    x = rng.normal(size=(20, 16))
    times = lambda z, matrix: z @ np.asarray(matrix.kernel[...], np.float64)
    sigmoid = lambda z: 1 / (1 + np.exp(-z))
    heads = lambda z: z.reshape(20, 2, -1)
    q, k, v = (heads(times(x, project)) for project in (mixer.query, mixer.key, mixer.value))
    alpha = heads(sigmoid(times(times(x, mixer.decay_down), mixer.decay_up)) ** 0.5)
    o, state = np.zeros(v.shape), np.zeros((2, 4, 8))
    for t in range(20):
        state = alpha[t][..., None] * state + np.einsum("hk,hv->hkv", k[t], v[t])
        o[t] = np.einsum("hkv,hk->hv", state, q[t]) * 4**-0.5
    o /= np.sqrt((o**2).mean(-1, keepdims=True) + 1e-6)
    gate = times(x, mixer.gate)
    expected = times(o.reshape(20, 16) * gate * sigmoid(gate), mixer.output)
    out = jax.jit(mixer)(jnp.asarray(x[None], jnp.float32))
    assert_close((out.y[0], out.state.memory[0]), (expected, state))


def test_default_sizes_are_the_papers():
    mixer = nnx.eval_shape(lambda: GLAConfig().make(2048, rngs=nnx.Rngs(0)))
    assert (mixer.heads, mixer.head_dim, mixer.value_dim) == (4, 256, 512)
    assert mixer.decay_down.kernel.shape == (2048, 16)
