import jax
import numpy as np
import pytest
from flax import nnx

from memjax.mixers import KimiDeltaAttentionConfig

pytestmark = pytest.mark.slow  # another of its kind stands for it in the second row of versions


def test_every_channel_of_a_head_has_a_decay_of_its_own():
    mixer = KimiDeltaAttentionConfig().make(32, rngs=nnx.Rngs(0))
    log_decay = mixer.log_decay(jax.random.normal(jax.random.key(0), (2, 5, 32)))
    assert log_decay.shape == (2, 5, 4, 8) and (np.asarray(log_decay) < 0).all()
    assert np.asarray(log_decay).std(-1).min() > 0


def test_the_lower_bound_holds_for_any_input():
    mixer = KimiDeltaAttentionConfig(lower_bound=-5.0).make(32, rngs=nnx.Rngs(0))
    log_decay = np.asarray(mixer.log_decay(1e4 * jax.random.normal(jax.random.key(0), (2, 5, 32))))
    assert log_decay.min() == -5.0 and log_decay.max() <= 0
    with pytest.raises(ValueError, match="must be negative"):
        KimiDeltaAttentionConfig(lower_bound=0.0).make(32, rngs=nnx.Rngs(0))


def test_negative_eigenvalues_double_the_first_write():
    x = jax.random.normal(jax.random.key(0), (1, 1, 16))
    full, half = (
        KimiDeltaAttentionConfig(negative_eigenvalues=negative).make(16, rngs=nnx.Rngs(0))(x).state.memory
        for negative in (True, False)
    )
    np.testing.assert_allclose(full, 2 * half, rtol=1e-5)


def test_default_is_128_channels_a_head_at_the_papers_width():
    mixer = nnx.eval_shape(lambda: KimiDeltaAttentionConfig(heads=16).make(2048, rngs=nnx.Rngs(0)))
    assert mixer.init_state(1).memory.shape == (1, 16, 128, 128)
    assert mixer.dt_bias.shape == (2048,)
