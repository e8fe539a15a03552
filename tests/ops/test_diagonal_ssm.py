"""Every form against one float64 step a token, with documents, padding and a state coming in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.ops import diagonal_ssm
from memjax.ops.diagonal_ssm import powers
from tests.tolerances import assert_close

B, D, M = 3, 4, 3


def system(rng, dtype):
    draw = lambda *shape: rng.normal(size=shape) + (1j * rng.normal(size=shape) if dtype == np.complex64 else 0)
    decay = draw(D, M)
    decay = decay / np.abs(decay) * rng.uniform(0.8, 0.999, (D, M))
    return [a.astype(dtype) for a in (decay, draw(D, M), draw(D, M), draw(B, D, M))]


def by_steps(x, decay, write, read, state, ids=None):
    ids = np.ones(x.shape[:2], int) if ids is None else ids
    out, states = np.zeros(x.shape), state.astype(np.complex128)
    decay, write, read = (a.astype(np.complex128) for a in (decay, write, read))
    for b in range(B):
        document = 0
        for t in np.flatnonzero(ids[b]):
            if document and ids[b, t] != document:
                states[b] = 0
            document = ids[b, t]
            states[b] = decay * states[b] + write * x[b, t, :, None]
            out[b, t] = (read * states[b]).real.sum(-1)
    return out, states if np.iscomplexobj(state) else states.real


@pytest.mark.parametrize("dtype", [np.complex64, np.float32])
@pytest.mark.parametrize("mode", ["convolution", "chunked", "recurrence"])
@pytest.mark.parametrize("time", [pytest.param(33, marks=pytest.mark.slow), 96])
def test_every_form_equals_the_steps(mode, dtype, time, rng):
    *parts, state = system(rng, dtype)
    x = rng.normal(size=(B, time, D)).astype(np.float32)
    y, last = jax.jit(lambda x, state, *p: diagonal_ssm(x, *p, initial_state=state, mode=mode))(x, state, *parts)
    assert last.dtype == dtype
    assert_close((y, last), by_steps(x, *parts, state))


def rows(time):
    """Padding in front, between and behind; documents of one token; borders in and between chunks; nothing at all."""
    ids = np.zeros((B, time), np.int32)
    ids[0, 5:50] = 1
    ids[0, 50:51], ids[0, 51:70], ids[0, 74:80] = 2, 3, 4
    ids[1, 0:32], ids[1, 32:90] = 7, 8
    return ids


@pytest.mark.parametrize("mode", ["chunked", "recurrence"])
def test_documents_reset_and_padding_waits(mode, rng):
    *parts, state = system(rng, np.complex64)
    x = rng.normal(size=(B, 90, D)).astype(np.float32)
    ids = jnp.asarray(rows(90))
    run = jax.jit(lambda x, state, *p: diagonal_ssm(x, *p, initial_state=state, segment_ids=ids, mode=mode))
    y, last = run(x, state, *parts)
    assert_close((y * (ids > 0)[..., None], last), by_steps(x, *parts, state, np.asarray(ids)))
    np.testing.assert_array_equal(last[2], state[2])


@pytest.mark.parametrize("documents", [pytest.param(False, marks=pytest.mark.slow), True])
def test_gradients_of_the_chunks_are_those_of_the_recurrence(documents, rng):
    *parts, state = system(rng, np.complex64)
    x = rng.normal(size=(B, 90, D)).astype(np.float32)
    ids = jnp.asarray(rows(90)) if documents else None
    weight = rng.normal(size=x.shape) * (1 if ids is None else ids[..., None] > 0)

    def loss(mode, x, state, *p):
        y, last = diagonal_ssm(x, *p, initial_state=state, segment_ids=ids, mode=mode)
        return (y * weight).sum() + (last.real * state.imag).sum()

    grad = lambda mode: jax.jit(jax.grad(lambda *a: loss(mode, *a), tuple(range(5))))(x, state, *parts)
    assert_close(grad("chunked"), grad("recurrence"), gradient=True, factor=2)  # both sides are float32


def test_powers_stay_close_over_thousands_of_steps():
    z = np.asarray([-1e-4 + 1.3j, -5e-4 + 3.0j])
    decay = np.exp(z).astype(np.complex64)
    exact = decay.astype(np.complex128) ** np.arange(4097)[:, None]
    error = np.abs(np.asarray(powers(jnp.asarray(decay), 4097)) - exact).max()
    assert error < 1e-4
    np.testing.assert_array_equal(powers(jnp.asarray([0.0]), 4), [[1], [0], [0], [0]])


def test_the_fft_refuses_documents(rng):
    *parts, _ = system(rng, np.complex64)
    x, ids = jnp.ones((B, 4, D)), jnp.ones((B, 4), jnp.int32)
    with pytest.raises(NotImplementedError, match="convolution"):
        diagonal_ssm(x, *map(jnp.asarray, parts), segment_ids=ids, mode="convolution")
