import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memjax.mixers import RGLRUConfig
from memjax.mixers.rg_lru import bounded_sqrt, init_lambda
from tests.tolerances import assert_close

pytestmark = pytest.mark.slow  # another of its kind stands for it in the second row of versions

call = jax.jit(lambda mixer, x, state=None, segment_ids=None: mixer(x, state, segment_ids=segment_ids))


def sigmoid(u):
    return 1 / (1 + np.exp(-u))


def paper(mixer, x):
    """The block a step a token in float64, the gate matrices written out whole."""
    wide = lambda a: np.asarray(a[...], np.float64)
    x, parts = np.asarray(x, np.float64), 2 if mixer.config.complex_valued else 1
    half = mixer.channels // parts

    def gate(layer, u):
        kernel = wide(layer.kernel)
        matrix = np.zeros((mixer.channels, half))
        for n, (rows, columns) in enumerate([kernel.shape[1:]] * kernel.shape[0]):
            matrix[n * rows : (n + 1) * rows, n * columns : (n + 1) * columns] = kernel[n]
        return sigmoid(u @ matrix + wide(layer.bias))

    branch = np.pad(x @ wide(mixer.input.kernel), ((0, 0), (3, 0), (0, 0)))
    h, out = np.zeros((x.shape[0], half), np.complex128), []
    for t in range(x.shape[1]):
        u = (branch[:, t : t + 4] * wide(mixer.conv.kernel)).sum(1) + wide(mixer.conv.bias)
        r, i = gate(mixer.recurrence_gate, u), gate(mixer.input_gate, u)
        size = np.exp(-8 * r * np.log1p(np.exp(wide(mixer.Lambda))))
        turn = np.exp(1j * r * wide(mixer.theta)) if parts == 2 else 1
        scale = 1 if t == 0 else np.sqrt(1 - size**2)
        h = size * turn * h + scale * i * (u[:, :half] + 1j * u[:, half:] if parts == 2 else u)
        g = x[:, t] @ wide(mixer.gate.kernel)
        gelu = 0.5 * g * (1 + np.tanh(np.sqrt(2 / np.pi) * (g + 0.044715 * g**3)))
        channels = np.concatenate([h.real, h.imag], 1) if parts == 2 else h.real
        out.append((gelu * channels) @ wide(mixer.output.kernel))
    return np.stack(out, 1), channels


@pytest.mark.parametrize("complex_valued", [False, True])
def test_equals_the_papers_recurrence(complex_valued):
    config = RGLRUConfig(recurrent_width=12, blocks=3, complex_valued=complex_valued)
    mixer = config.make(8, rngs=nnx.Rngs(0))
    mixer.recurrence_gate.bias[...] = jax.random.normal(jax.random.key(1), mixer.recurrence_gate.bias.shape)
    x = jax.random.normal(jax.random.key(0), (2, 30, 8))
    out = call(mixer, x)
    assert out.state.hidden.shape == (2, 12)
    assert_close((out.y, out.state.hidden), paper(mixer, x))


def test_the_complex_form_keeps_the_contract_on_states():
    """Cut in two calls, and packed behind another document, one and the same."""
    mixer = RGLRUConfig(blocks=2, complex_valued=True).make(8, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (1, 13, 8))
    whole = call(mixer, x[:, 4:])
    head = call(mixer, x[:, 4:5])
    tail = call(mixer, x[:, 5:], head.state)
    assert_close((jnp.concatenate([head.y, tail.y], 1), tail.state), (whole.y, whole.state))
    packed = call(mixer, x, None, jnp.asarray([[1] * 3 + [0] + [2] * 9], jnp.int32))
    assert_close((packed.y[:, 4:], packed.state), (whole.y, whole.state))


def test_the_first_token_of_a_document_is_written_whole():
    mixer = RGLRUConfig(blocks=2).make(8, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (1, 1, 8))
    u, _ = mixer.conv(mixer.input(x), mixer.conv.init_state(1), None)
    first = call(mixer, x).state
    assert first.begun == 1
    assert_close(first.hidden, (jax.nn.sigmoid(mixer.input_gate(u)) * u)[:, 0])


def test_decays_begin_on_the_papers_ring():
    squares = np.exp(-2 * jax.nn.softplus(init_lambda(jax.random.key(0), 4000)))
    assert 0.81 - 1e-5 < squares.min() < 0.812 and 0.996 < squares.max() < 0.999**2 + 1e-5
    np.testing.assert_allclose(squares.mean(), (0.9**2 + 0.999**2) / 2, atol=5e-3)  # uniform in a^2, not in a


def test_a_closed_gate_has_finite_gradients():
    """r underflows to 0, so a is 1 and the root has an infinite slope."""
    mixer = RGLRUConfig(blocks=2).make(8, rngs=nnx.Rngs(0))
    mixer.recurrence_gate.bias[...] = jnp.full_like(mixer.recurrence_gate.bias[...], -200.0)
    x = jax.random.normal(jax.random.key(0), (1, 4, 8))
    gradients = jax.jit(jax.grad(lambda mixer: (mixer(x).y ** 2).sum()))(mixer)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    slope = jax.vmap(jax.grad(bounded_sqrt))(jnp.asarray([0.0, 1e-12, 0.25]))
    np.testing.assert_allclose(slope, [1000, 1000, 1.0], rtol=1e-6)


def test_sizes():
    assert RGLRUConfig().make(24, rngs=nnx.Rngs(0)).channels == 32
    with pytest.raises(ValueError, match=r"recurrent_width=12 is no multiple of 2 \* blocks=4"):
        RGLRUConfig(recurrent_width=12, blocks=4, complex_valued=True).make(8, rngs=nnx.Rngs(0))
