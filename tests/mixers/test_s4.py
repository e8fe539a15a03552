import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memjax.mixers import S4Config
from memjax.ops import hippo
from tests.tolerances import assert_close

pytestmark = pytest.mark.slow  # another of its kind stands for it in the second row of versions

N = 6


def dense_hippo(mixer, x):
    """HiPPO-LegS itself by the bilinear rule, as real N x N matrices in float64; C read off through the basis."""
    a, b = hippo.transition("legs", N)
    basis = hippo.diagonal_plus_low_rank("legs", N).basis
    numbers = lambda parameter: np.asarray(parameter[...], np.float64)
    pair = numbers(mixer.C_pair)
    c = 2 * ((pair[..., 0] + 1j * pair[..., 1]) @ basis.conj().T).real
    y = np.zeros(x.shape)
    for d, dt in enumerate(np.exp(numbers(mixer.log_dt))):
        left = np.linalg.inv(np.eye(N) - dt / 2 * a)
        s = np.zeros((x.shape[0], N))
        for t in range(x.shape[1]):
            s = s @ (left @ (np.eye(N) + dt / 2 * a)).T + np.outer(x[:, t, d], left @ b * dt)
            y[:, t, d] = s @ c[d] + numbers(mixer.skip)[d] * x[:, t, d]
    value, gate = np.split(np.asarray(jax.nn.gelu(y)) @ numbers(mixer.output.kernel), 2, axis=-1)
    return value / (1 + np.exp(-gate))


@pytest.mark.parametrize("mode", ["convolution", "chunked", "recurrence"])
def test_it_begins_as_hippo_legs_in_every_mode(mode, rng):
    mixer = S4Config(state_size=N, mode=mode).make(3, rngs=nnx.Rngs(0))
    x = rng.normal(size=(2, 21, 3))
    y = jax.jit(lambda mixer, x: mixer(x).y)(mixer, jnp.asarray(x, jnp.float32))
    assert_close(y, dense_hippo(mixer, x))


def test_a_step_is_a_contraction_whatever_is_learned(rng):
    mixer = S4Config(state_size=N).make(2, rngs=nnx.Rngs(0))
    for parameter in (mixer.A_real, mixer.A_imag, mixer.P_pair):
        parameter[...] = jnp.asarray(3 * rng.normal(size=parameter.shape), jnp.float32)
    mixer.log_dt[...] = jnp.log(jnp.asarray([1e-3, 5.0]))
    state = jnp.asarray(rng.normal(size=(50, 2, N // 2, 2)), jnp.float32)
    after = mixer(jnp.zeros((50, 1, 2)), type(mixer.init_state(1))(state)).state.memory
    size = lambda s: np.sqrt((np.asarray(s, np.float64) ** 2).sum((2, 3)))
    assert np.all(size(after) < size(state))


def test_impossible_configs_are_refused():
    for config, word in ((S4Config(state_size=5), "state_size"), (S4Config(dt_max=0.0), "dt_max")):
        with pytest.raises(ValueError, match=word):
            config.make(4, rngs=nnx.Rngs(0))
