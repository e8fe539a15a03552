import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memjax.mixers import LinearAttentionConfig
from tests.tolerances import assert_close

pytestmark = pytest.mark.slow  # another of its kind stands for it in the second row of versions


def test_equals_attention_with_feature_weights_for_a_softmax(rng):
    mixer = LinearAttentionConfig(heads=2).make(16, rngs=nnx.Rngs(0))
    x = rng.normal(size=(20, 16))
    q, k, v = (
        (x @ np.asarray(project.kernel[...], np.float64)).reshape(20, 2, 8)
        for project in (mixer.query, mixer.key, mixer.value)
    )
    phi = lambda z: np.where(z > 0, z + 1, np.exp(np.minimum(z, 0)))
    weights = np.tril(np.einsum("ihk,jhk->hij", phi(q), phi(k)))
    weights /= weights.sum(-1, keepdims=True)
    o = np.einsum("hij,jhv->ihv", weights, v).reshape(20, 16)
    expected = o @ np.asarray(mixer.output.kernel[...], np.float64)
    assert_close(jax.jit(mixer)(jnp.asarray(x[None], jnp.float32)).y[0], expected)


def test_features_that_can_cancel_are_not_normalised():
    with pytest.raises(ValueError, match="normalize=False"):
        LinearAttentionConfig(features="none").make(16, rngs=nnx.Rngs(0))
    mixer = LinearAttentionConfig(features="none", normalize=False).make(16, rngs=nnx.Rngs(0))
    assert mixer.init_state(1).memory.shape == (1, 4, 4, 4)
    assert np.isfinite(mixer(jnp.zeros((1, 3, 16))).y).all()
