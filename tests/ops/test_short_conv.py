import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.ops import short_conv
from tests.tolerances import assert_close


def by_hand(x, kernel, bias, state, segments):
    """Each document on its own; the first continues the state."""
    batch, time, width = x.shape
    reach = kernel.shape[0] - 1
    y, final = np.zeros(x.shape), state.copy()
    for b in range(batch):
        past, current = list(state[b]), None
        for t in range(time):
            if segments[b, t] == 0:
                continue
            if current is not None and segments[b, t] != current:
                past = [np.zeros(width)] * reach
            current = segments[b, t]
            past.append(x[b, t])
            y[b, t] = bias + sum(kernel[w] * past[len(past) - 1 - reach + w] for w in range(reach + 1))
        final[b] = past[len(past) - reach :] if reach else final[b]
    return y, final


SEGMENTS = [
    [1, 1, 1, 1, 1, 1, 1, 1, 1],
    [0, 0, 1, 1, 0, 2, 2, 2, 0],
    [1, 2, 3, 4, 0, 0, 5, 0, 0],
    [0, 0, 0, 0, 0, 0, 0, 0, 0],
    [0, 3, 3, 3, 3, 3, 3, 7, 7],
]


@pytest.mark.parametrize("taps", [*(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2)), 4])
def test_values_and_gradients_equal_a_loop(taps, rng):
    segments = np.asarray(SEGMENTS, np.int32)
    x, state = rng.normal(size=(5, 9, 3)), rng.normal(size=(5, taps - 1, 3))
    kernel, bias = rng.normal(size=(taps, 3)), rng.normal(size=3)
    f32 = lambda a: jnp.asarray(a, jnp.float32)
    conv = lambda x, kernel, bias, state: short_conv(
        x, kernel, bias, initial_state=state, segment_ids=jnp.asarray(segments)
    )
    y, final = jax.jit(conv)(f32(x), f32(kernel), f32(bias), f32(state))
    expected = by_hand(x, kernel, bias, state, segments)
    live = (segments > 0)[..., None]
    assert_close((np.asarray(y) * live, np.asarray(final)), expected)

    weights = rng.normal(size=y.shape) * live, rng.normal(size=final.shape)
    linear = lambda *arguments: sum((a * w).sum() for a, w in zip(conv(*arguments), weights, strict=True))
    arguments = (x, kernel, bias, state)
    with jax.enable_x64(True):
        gradients = jax.jit(jax.grad(linear, (0, 1, 2, 3)))(*map(jnp.asarray, arguments))
        for index, argument in enumerate(arguments):
            step = rng.normal(size=argument.shape)
            moved = [a + 1e-6 * step if i == index else a for i, a in enumerate(arguments)]
            back = [a - 1e-6 * step if i == index else a for i, a in enumerate(arguments)]
            loop = lambda a: sum((o * w).sum() for o, w in zip(by_hand(*a, segments), weights, strict=True))
            slope = (loop(moved) - loop(back)) / 2e-6
            np.testing.assert_allclose((np.asarray(gradients[index]) * step).sum(), slope, rtol=1e-6, atol=1e-8)


def test_any_split_equals_one_call_and_bfloat16_keeps_its_dtype(rng):
    x, kernel = (
        jnp.asarray(rng.normal(size=(2, 11, 4)), jnp.bfloat16),
        jnp.asarray(rng.normal(size=(4, 4)), jnp.float32),
    )
    conv = jax.jit(lambda x, state=None: short_conv(x, kernel, initial_state=state))
    whole, last = conv(x)
    assert whole.dtype == jnp.bfloat16 and last.dtype == jnp.float32
    state, pieces = None, []
    for start, stop in ((0, 1), (1, 3), (3, 11)):
        piece, state = conv(x[:, start:stop], state)
        pieces.append(piece)
    np.testing.assert_array_equal(np.asarray(jnp.concatenate(pieces, 1), np.float32), np.asarray(whole, np.float32))
    np.testing.assert_array_equal(state, last)
