import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memjax.layers import gate_log_decay, init_decay_gate
from memjax.mixers import GatedDeltaNetConfig


def test_default_sizes_are_the_papers_proportions():
    mixer = nnx.eval_shape(lambda: GatedDeltaNetConfig(heads=6).make(2048, rngs=nnx.Rngs(0)))
    assert (mixer.head_dim, mixer.value_dim) == (256, 512)
    matrices = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(mixer)) if leaf.ndim == 2)
    assert 5.9 < matrices / 2048**2 < 6.2  # "a layer has about 6 d^2 parameters"


def test_gate_starts_where_mamba2_starts():
    a_log, dt_bias = init_decay_gate(jax.random.key(0), 1000)
    assert np.isfinite(a_log).all() and np.exp(a_log).min() > 0 and np.exp(a_log).max() <= 16
    dt = jax.nn.softplus(dt_bias)
    assert 0.9e-3 < dt.min() < 2e-3 and 0.08 < dt.max() < 0.11
    log_decay = gate_log_decay(jnp.full((1, 2, 1000), 50.0, jnp.bfloat16), a_log, dt_bias)
    assert log_decay.dtype == jnp.float32 and np.isfinite(log_decay).all() and (log_decay <= 0).all()


def test_value_heads_of_one_key_head_hold_different_values():
    mixer = GatedDeltaNetConfig(heads=1, value_heads=2, head_dim=8, expand_v=1.0).make(16, rngs=nnx.Rngs(0))
    state = jax.jit(lambda x: mixer(x).state)(jax.random.normal(jax.random.key(0), (1, 5, 16)))
    assert state.memory.shape == (1, 2, 8, 8)
    assert np.abs(state.memory[0, 0] - state.memory[0, 1]).max() > 1e-3


def test_negative_eigenvalues_change_the_writing_strength():
    x = jax.random.normal(jax.random.key(0), (1, 1, 16))
    make = lambda **fields: GatedDeltaNetConfig(heads=1, head_dim=8, **fields).make(16, rngs=nnx.Rngs(0))
    run = jax.jit(lambda mixer, x: mixer(x).state.memory)
    first, half = run(make(negative_eigenvalues=True), x), run(make(), x)
    np.testing.assert_allclose(first, 2 * half, rtol=1e-5)  # the first write is beta k v^T


def test_value_heads_must_be_a_multiple():
    with pytest.raises(ValueError, match="value_heads=3"):
        GatedDeltaNetConfig(heads=2, value_heads=3).make(16, rngs=nnx.Rngs(0))
