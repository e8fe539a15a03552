import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from memjax.layers import GatedMLPConfig, Linear, RMSNorm, l2_normalize, rotary
from memjax.layers.norms import rms_normalize


def test_norms_against_numpy_and_smooth_at_zero(rng):
    x = rng.normal(size=(3, 8)).astype(np.float32)
    np.testing.assert_allclose(
        rms_normalize(jnp.asarray(x)), x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6), rtol=1e-6
    )
    np.testing.assert_allclose(
        l2_normalize(jnp.asarray(x)), x / np.sqrt((x**2).sum(-1, keepdims=True) + 1e-6), rtol=1e-6
    )
    gradient = jax.grad(lambda x: l2_normalize(x).sum())(jnp.zeros((2, 4)))
    np.testing.assert_allclose(gradient, 1e3, rtol=1e-5)


def test_norm_computes_in_float32_and_keeps_the_dtype():
    x = jnp.full((1, 4), 3e4, jnp.float16)  # the square overflows in float16
    y = RMSNorm(4)(x)
    assert y.dtype == jnp.float16
    np.testing.assert_allclose(y, 1.0, rtol=1e-3)
    unit = l2_normalize(x)
    assert unit.dtype == jnp.float16
    np.testing.assert_allclose(unit, 0.5, rtol=1e-3)


def test_rotary_scores_depend_on_the_distance_only(rng):
    q, k = (jnp.asarray(rng.normal(size=(1, 1, 1, 8)), jnp.float32) for _ in range(2))
    at = lambda x, p: rotary(x, jnp.full((1, 1), p, jnp.int32))
    scores = [float((at(q, p) * at(k, p - 3)).sum()) for p in (3, 10, 500)]
    np.testing.assert_allclose(scores, scores[0], rtol=1e-4)
    assert abs(float((at(q, 10) * at(k, 8)).sum()) - scores[0]) > 1e-3
    np.testing.assert_array_equal(at(q, 0), q)


def test_linear_casts_its_matrix_to_the_input():
    layer = Linear(4, 3, rngs=nnx.Rngs(0))
    assert layer.kernel[...].dtype == jnp.float32
    assert layer(jnp.ones((2, 4), jnp.bfloat16)).dtype == jnp.bfloat16


def test_gated_mlp_follows_the_mixer_contract(rngs):
    mlp = GatedMLPConfig().make(12, rngs=rngs)
    assert mlp.up.kernel[...].shape == (12, 32)  # 8/3 of 12, rounded up to 16s
    x = jnp.ones((2, 5, 12))
    y, state, aux = mlp(x, mlp.init_state(2))
    assert y.shape == x.shape and state == () and aux == {}
    expected = (jax.nn.silu(x @ mlp.gate.kernel[...]) * (x @ mlp.up.kernel[...])) @ mlp.down.kernel[...]
    np.testing.assert_allclose(y, expected, rtol=1e-5)
