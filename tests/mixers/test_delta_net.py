import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memjax.mixers import DeltaNetConfig
from tests.tolerances import assert_close

pytestmark = pytest.mark.slow  # another of its kind stands for it in the second row of versions


def test_a_repeated_key_replaces_the_value_it_held():
    """With beta = 1 the memory answers the last value written at a key, whatever was there before."""
    mixer = DeltaNetConfig(heads=1, conv_width=1).make(8, rngs=nnx.Rngs(0))
    mixer.beta.kernel[...] = jnp.full_like(mixer.beta.kernel[...], 1e4)
    mixer.key.kernel[...] = jnp.zeros_like(mixer.key.kernel[...]).at[0].set(1.0)  # the same key for every token
    x = jnp.abs(jax.random.normal(jax.random.key(0), (1, 5, 8))) + 0.1
    memory = jax.jit(mixer)(x).state.memory[0, 0]
    conv = lambda name, z: jax.nn.silu(z * getattr(mixer, name).kernel[...][None, None, 0])
    key, value = conv("conv_key", mixer.key(x))[0, -1], conv("conv_value", mixer.value(x))[0, -1]
    assert_close(memory.T @ (key / jnp.linalg.norm(key)), value, factor=10)  # the norm's epsilon of 1e-6


def test_negative_eigenvalues_double_the_first_write():
    x = jax.random.normal(jax.random.key(0), (1, 1, 16))
    full, half = (
        DeltaNetConfig(negative_eigenvalues=negative).make(16, rngs=nnx.Rngs(0))(x).state.memory
        for negative in (True, False)
    )
    np.testing.assert_allclose(full, 2 * half, rtol=1e-5)
