import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.linalg import block_diag, expm

from memjax.mixers import S5Config
from memjax.ops import hippo
from tests.tolerances import assert_close

pytestmark = pytest.mark.slow  # another of its kind stands for it in the second row of versions

P, J, WIDTH = 8, 2, 3


def dense(mixer, x, dt, rule):
    """J blocks of HiPPO's normal part as one real system of P states, held or bilinear, in float64."""
    numbers = lambda parameter: np.asarray(parameter[...], np.float64)
    a = block_diag(*[hippo.normal_plus_low_rank("legs", P // J)[0]] * J)
    basis = np.kron(np.eye(J), hippo.diagonal_plus_low_rank("legs", P // J).basis)
    half = P // 2
    b = numbers(mixer.input.kernel)
    b = 2 * (basis @ (b[:, :half] + 1j * b[:, half:]).T).real  # x = 2 Re(V z), so B = 2 Re(V B~)
    c = numbers(mixer.readout.kernel)
    c = 2 * ((c[:half] - 1j * c[half:]).T @ basis.conj().T).real
    if rule == "zoh":
        step = expm(dt * a)
        push = np.linalg.solve(a, step - np.eye(P)) @ b
    else:
        left = np.linalg.inv(np.eye(P) - dt / 2 * a)
        step, push = left @ (np.eye(P) + dt / 2 * a), dt * left @ b
    s, y = np.zeros((x.shape[0], P)), np.zeros(x.shape)
    for t in range(x.shape[1]):
        s = s @ step.T + x[:, t] @ push.T
        y[:, t] = s @ c.T + numbers(mixer.skip) * x[:, t]
    z = np.asarray(jax.nn.gelu(y))
    return z / (1 + np.exp(-z @ numbers(mixer.output.kernel)))


@pytest.mark.parametrize("rule", ["zoh", "bilinear"])
def test_it_begins_as_blocks_of_real_hippo_matrices(rule, rng):
    mixer = S5Config(state_size=P, blocks=J, discretization=rule).make(WIDTH, rngs=nnx.Rngs(0))
    mixer.log_dt[...] = jnp.full(P // 2, np.log(0.05), jnp.float32)  # one step for all: a real dense system has one
    x = rng.normal(size=(2, 19, WIDTH))
    y = jax.jit(lambda mixer, x: mixer(x).y)(mixer, jnp.asarray(x, jnp.float32))
    assert_close(y, dense(mixer, x, 0.05, rule))


def test_sizes_and_steps():
    mixer = S5Config().make(16, rngs=nnx.Rngs(0))
    assert mixer.init_state(2).memory.shape == (2, 128, 2)
    dt = np.exp(mixer.log_dt[...])
    assert 1e-3 <= dt.min() < 2e-3 and 0.05 < dt.max() <= 0.1
    # eight copies of a HiPPO matrix of 32 states
    np.testing.assert_allclose(mixer.A_imag[...].reshape(8, 16), np.tile(mixer.A_imag[:16], (8, 1)))
    decay, _ = mixer.system()
    assert np.abs(decay).max() < 1


def test_impossible_configs_are_refused():
    for config, word in ((S5Config(state_size=24, blocks=8), "state_size"), (S5Config(dt_min=1.0), "dt_min")):
        with pytest.raises(ValueError, match=word):
            config.make(4, rngs=nnx.Rngs(0))
