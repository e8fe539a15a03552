import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memjax.layers import stable_rate
from memjax.mixers import S4DConfig
from tests.tolerances import assert_close

MODES = ("convolution", "chunked", "recurrence")
call = jax.jit(lambda mixer, x, state=None: mixer(x, state))


def by_hand(mixer, x, a, rule):
    """The paper's recurrence, one step at a time in float64, up to GELU and the output projection."""
    numbers = lambda parameter: np.asarray(parameter[...], np.float64)
    pair = lambda p: numbers(p)[..., 0] + (1j * numbers(p)[..., 1] if p.shape[-1] == 2 else 0)
    a, b, c = a.astype(np.complex128), pair(mixer.B_pair), pair(mixer.C_pair)
    dt = np.exp(numbers(mixer.log_dt))[:, None]
    if rule == "zoh":
        decay, write = np.exp(dt * a), (np.exp(dt * a) - 1) / a * b
    else:
        decay, write = (1 + dt * a / 2) / (1 - dt * a / 2), dt / (1 - dt * a / 2) * b
    s, y = np.zeros((x.shape[0], *b.shape), complex), np.zeros(x.shape)
    factor = 2 if mixer.C_pair.shape[-1] == 2 else 1
    for t in range(x.shape[1]):
        s = decay * s + write * x[:, t, :, None]
        y[:, t] = factor * (c * s).sum(-1).real + numbers(mixer.skip) * x[:, t]
    out = np.asarray(jax.nn.gelu(y)) @ numbers(mixer.output.kernel)
    value, gate = np.split(out, 2, axis=-1)
    return value / (1 + np.exp(-gate))


# the eigenvalues of each init, for N = 4
EIGENVALUES = {
    "lin": -0.5 + 1j * np.pi * np.arange(2),
    "inv": -0.5 + 1j * 4 / np.pi * (4 / (2 * np.arange(2) + 1) - 1),
    "real": -np.arange(1.0, 5.0),
}


@pytest.mark.parametrize("rule", ["zoh", "bilinear"])
@pytest.mark.parametrize("init", ["lin", "inv", "real"])
def test_every_mode_is_the_papers_recurrence(init, rule, rng):
    x = rng.normal(size=(2, 37, 3))
    a = np.tile(EIGENVALUES[init], (3, 1))
    for mode in MODES if rule == "zoh" else MODES[1:2]:
        config = S4DConfig(state_size=4, init=init, discretization=rule, mode=mode)
        mixer = config.make(3, rngs=nnx.Rngs(0))
        assert_close(call(mixer, jnp.asarray(x, jnp.float32)).y, by_hand(mixer, x, a, rule))


def test_a_prompt_by_convolution_and_an_answer_by_recurrence(rng):
    x = jnp.asarray(rng.normal(size=(2, 40, 4)), jnp.float32)
    mixer = S4DConfig(state_size=8, mode="convolution").make(4, rngs=nnx.Rngs(0))
    whole = call(mixer, x)
    _, state, _ = call(mixer, x[:, :23])
    middle, state, _ = call(mixer, x[:, 23:39], state)
    end, state, _ = call(mixer, x[:, 39:], state)
    assert_close((jnp.concatenate([middle, end], 1), state), (whole.y[:, 23:], whole.state))


def test_it_begins_as_the_paper_says():
    mixer = S4DConfig().make(400, rngs=nnx.Rngs(0))
    assert mixer.A_real.shape == (400, 32)
    dt = np.exp(mixer.log_dt[...])
    assert 1e-3 <= dt.min() < 1.2e-3 and 0.08 < dt.max() <= 0.1
    assert abs(np.median(np.log(dt)) - np.log(1e-2)) < 0.4  # log-uniform
    np.testing.assert_allclose(-np.exp(mixer.A_real[...]), -0.5, rtol=1e-6)
    assert abs(float(mixer.A_imag[...].max()) - 1303.3) < 0.1  # LegS at N = 64
    c = mixer.C_pair[...]
    assert abs(float((c**2).sum(-1).mean()) - 1) < 0.05


@pytest.mark.parametrize("kind", ["direct", "exp", "softplus", "best"])
def test_every_reparameterization_begins_at_one_half(kind):
    mixer = S4DConfig(state_size=4, reparameterization=kind).make(2, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(stable_rate.real_part(mixer.A_real[...], kind), -0.5, rtol=1e-6)
    decay, *_ = mixer.system()
    assert np.abs(decay).max() < 1


def test_impossible_configs_are_refused():
    for config, word in (
        (S4DConfig(state_size=5), "state_size"),
        (S4DConfig(dt_min=0.2), "dt_min"),
        (S4DConfig(init="real", reparameterization="best"), "best"),
    ):
        with pytest.raises(ValueError, match=word):
            config.make(4, rngs=nnx.Rngs(0))
