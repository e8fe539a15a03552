"""Causal convolution with a kernel as long as the sequence, by FFT: the training form of time-invariant models.

    y[t] = sum_l kernel[l] x[t - l]           kernel[0] weighs the current token

The circular convolution of the FFT is kept from wrapping round by zero padding to at least T + L - 1 points, so no
output sees a later input beyond rounding: an FFT mixes all times, and its rounding error is about 1e-7 of the largest
value of the row, where a recurrence has an error of each value's own size.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def fft_conv(x: Float[Array, "B T D"], kernel: Float[Array, "L D"]) -> Float[Array, "B T D"]:
    """Convolves each channel with its kernel, from zero history, in float32 (float64 for float64 inputs).

    Args:
        x: [B, T, D].
        kernel: [L, D], kernel[l] weighs the token l steps back; rows beyond T are unused. (`short_conv` orders its
            few taps the other way round, as the stored weights of that layer are.)

    Returns:
        y [B, T, D] in the dtype of x.

    Raises:
        ValueError: T = 0 or L = 0, or different numbers of channels.
    """
    time, width = x.shape[1:]
    if not time or not kernel.shape[0] or kernel.shape[1] != width:
        raise ValueError(f"fft_conv: x of shape {x.shape} does not fit a kernel of shape {kernel.shape}")
    kernel = kernel[:time]
    wide = jnp.promote_types(jnp.promote_types(x.dtype, kernel.dtype), jnp.float32)  # FFTs know no bfloat16
    points = _fast_length(time + kernel.shape[0] - 1)
    spectrum = jnp.fft.rfft(x.astype(wide), points, axis=1) * jnp.fft.rfft(kernel.astype(wide), points, axis=0)[None]
    return jnp.fft.irfft(spectrum, points, axis=1)[:, :time].astype(x.dtype)


def _fast_length(points: int) -> int:
    """The smallest of 2^a, 3 * 2^a and 5 * 2^a that holds `points`; even, as the real FFTs like it."""
    candidates = []
    for odd in (1, 3, 5):
        length = 2 * odd
        while length < points:
            length *= 2
        candidates.append(length)
    return min(candidates)
