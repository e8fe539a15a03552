import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.ops import fft_conv
from tests.tolerances import assert_close


def by_hand(x, kernel):
    batch, time, width = x.shape
    return np.array(
        [[np.convolve(x[b, :, d], kernel[:, d])[:time] for d in range(width)] for b in range(batch)]
    ).swapaxes(1, 2)


@pytest.mark.parametrize(("time", "taps"), [(1, 1), (1, 5), (63, 63), (64, 7), (65, 200), (500, 500)])
def test_values_and_gradients_equal_direct_sums(time, taps, rng):
    x, kernel = rng.normal(size=(2, time, 3)), rng.normal(size=(taps, 3))
    weights = rng.normal(size=x.shape)
    arguments = jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32)
    assert_close(jax.jit(fft_conv)(*arguments), by_hand(x, kernel))
    loss = lambda x, kernel: (fft_conv(x, kernel) * jnp.asarray(weights, jnp.float32)).sum()
    dx, dkernel = jax.jit(jax.grad(loss, (0, 1)))(*arguments)
    # correlations: time runs backwards
    assert_close(dx, by_hand(weights[:, ::-1], kernel)[:, ::-1], gradient=True)
    reach = min(time, taps)
    expected = np.zeros(kernel.shape)
    expected[:reach] = [(weights[:, lag:] * x[:, : time - lag]).sum((0, 1)) for lag in range(reach)]
    assert_close(dkernel, expected, gradient=True)


def test_no_output_sees_a_later_input(rng):
    x, kernel = jnp.asarray(rng.normal(size=(1, 40, 2)), jnp.float32), jnp.asarray(rng.normal(size=(40, 2)))
    output = lambda x: fft_conv(x, kernel.astype(jnp.float32))[0, :, 0]
    jacobian = np.asarray(jax.jit(jax.jacobian(output))(x))[:, 0, :, 0]
    later = np.triu(np.ones((40, 40), bool), 1)
    np.testing.assert_allclose(jacobian[later], 0, atol=1e-5)


def test_bfloat16_is_convolved_in_float32(rng):
    x = jnp.asarray(rng.normal(size=(2, 100, 4)), jnp.bfloat16)
    kernel = jnp.asarray(rng.normal(size=(100, 4)), jnp.float32)
    y = fft_conv(x, kernel)
    assert y.dtype == jnp.bfloat16
    assert_close(y, by_hand(np.asarray(x, np.float64), np.asarray(kernel, np.float64)))


def test_shapes_that_do_not_fit_are_refused():
    for x, kernel in (((1, 0, 2), (3, 2)), ((1, 4, 2), (0, 2)), ((1, 4, 2), (3, 1))):
        # the hook that checks annotations speaks before the function does where a name stands for two sizes
        with pytest.raises((ValueError, TypeError), match=r"does not fit|Type-check"):
            fft_conv(jnp.zeros(x), jnp.zeros(kernel))
