import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memjax.mixers import Mamba2Config
from tests.tolerances import assert_close

pytestmark = pytest.mark.slow  # another of its kind stands for it in the second row of versions


def sized(**fields):
    return Mamba2Config(head_dim=8, state_size=6, conv_width=2, **fields)


def by_hand(mixer, u):
    """The paper's recurrence for one sequence [T, D], one step a token, in float64."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), nnx.to_pure_dict(nnx.state(mixer)))
    silu = lambda z: z / (1 + np.exp(-z))

    def conv(name, z):
        kernel, before = p[name]["kernel"], np.zeros((p[name]["kernel"].shape[0] - 1, z.shape[1]))
        z = np.concatenate([before, z])
        taps = len(kernel)
        return silu(np.stack([(kernel * z[t : t + taps]).sum(0) for t in range(len(z) - taps + 1)]) + p[name]["bias"])

    x, b, c = (conv(f"conv_{n}", u @ p[n]["kernel"]) for n in ("value", "write", "read"))
    dt = np.log1p(np.exp(u @ p["step"]["kernel"] + p["dt_bias"]))
    heads, groups, (size, ones, zeros) = mixer.heads, mixer.config.groups, mixer.sizes
    x, b, c = x.reshape(len(u), heads, -1), b.reshape(len(u), groups, -1), c.reshape(len(u), groups, -1)
    y = np.zeros_like(x)
    for h in range(heads):
        group, s = h // (heads // groups), np.zeros((size + ones + zeros, x.shape[-1]))
        for t in range(len(u)):
            decay = np.exp(-np.exp(p["A_log"][h]) * dt[t, h])
            keep = np.concatenate([np.full(size, decay), np.ones(ones), np.zeros(zeros)])
            s = keep[:, None] * s + np.outer(b[t, group], dt[t, h] * x[t, h])
            y[t, h] = s.T @ c[t, group] + p["skip"][h] * x[t, h]
    y = y.reshape(len(u), -1) * silu(u @ p["gate"]["kernel"])
    by_group = y.reshape(len(u), groups, -1)
    y = (by_group / np.sqrt((by_group**2).mean(-1, keepdims=True) + 1e-6)).reshape(y.shape) * p["norm_scale"]
    return y @ p["output"]["kernel"]


@pytest.mark.parametrize("fields", [{}, {"groups": 2}, {"one_channels": 2, "zero_channels": 3}], ids=str)
def test_equals_the_papers_recurrence(fields, rng):
    mixer = sized(**fields).make(16, rngs=nnx.Rngs(0))
    u = rng.normal(size=(20, 16))
    assert_close(jax.jit(mixer)(jnp.asarray(u[None], jnp.float32)).y[0], by_hand(mixer, u))


def test_mimetic_initialisation_is_linear_attention_with_queries_like_keys(rng):
    mixer = sized(init="mimetic").make(16, rngs=nnx.Rngs(0))
    x = jnp.asarray(rng.normal(size=(1, 30, 16)), jnp.float32)
    state = jax.jit(mixer)(x).state
    key, value = (jax.nn.silu(project(x))[0] for project in (mixer.write, mixer.value))
    np.testing.assert_array_equal(mixer.read.kernel[...], mixer.write.kernel[...])
    without_decay = jnp.einsum("tn,tgp->gnp", key, value.reshape(30, mixer.heads, -1))
    np.testing.assert_allclose(state.memory[0], without_decay, rtol=2e-2, atol=1e-2)  # exp(-30 e^-8) = 0.99


def test_default_sizes_are_the_papers():
    mixer = nnx.eval_shape(lambda: Mamba2Config().make(768, rngs=nnx.Rngs(0)))
    assert (mixer.heads, mixer.config.head_dim, mixer.config.state_size) == (24, 64, 128)
    matrices = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(mixer)) if leaf.ndim == 2)
    assert 5.9 < matrices / 768**2 < 6.5  # about 6 d^2


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="head_dim=64"):
        Mamba2Config(head_dim=64).make(16, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="groups=3"):
        sized(groups=3).make(16, rngs=nnx.Rngs(0))
