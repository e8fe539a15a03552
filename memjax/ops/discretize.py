"""From continuous to discrete time: x' = a x + u, one number a per state, becomes x_k = decay x_{k-1} + gain u_k.

    zoh        decay = exp(dt a)                    gain = (exp(dt a) - 1) / a       exact for u constant over a step
    bilinear   decay = (1 + dt a/2) / (1 - dt a/2)  gain = dt / (1 - dt a/2)         exact integral of a straight line

Both decays lie inside the unit circle for every a with Re a < 0. The zoh gain is written with expm1: in float32 the
difference exp(dt a) - 1 has lost a twentieth of its value at dt a = 1e-6.
"""

import jax.numpy as jnp
from jaxtyping import Array, Inexact

# Below this size of z, (exp(z) - 1) / z and its derivative come from their power series: differentiating the quotient
# subtracts two numbers of size 1/z from each other. Ten terms reach float64 precision.
_SMALL = 0.1
_TERMS = 10


def zoh(
    a: Inexact[Array, "*#shape"], dt: Inexact[Array, "*#shape"]
) -> tuple[Inexact[Array, "*shape"], Inexact[Array, "*shape"]]:
    """Zero-order hold: the input keeps its value over the step.

    Args:
        a: real or complex, any value, 0 included (an integrator: decay 1, gain dt).
        dt: length of the step, real, of a shape that broadcasts with a at equal rank.

    Returns:
        decay and gain, in float32 or complex64 at least; B enters as gain * B.
    """
    a, dt = _widen(a, dt)
    z = dt * a
    return jnp.exp(z), dt * _expm1_over(z)


def bilinear(
    a: Inexact[Array, "*#shape"], dt: Inexact[Array, "*#shape"]
) -> tuple[Inexact[Array, "*shape"], Inexact[Array, "*shape"]]:
    """Trapezoidal rule (Tustin); arguments and results as `zoh`. Its pole at dt a = 2 lies on the unstable side."""
    a, dt = _widen(a, dt)
    half = dt * a / 2
    return (1 + half) / (1 - half), dt / (1 - half)


def _widen(a, dt):
    return (x.astype(jnp.promote_types(x.dtype, jnp.float32)) for x in (jnp.asarray(a), jnp.asarray(dt)))


def _expm1_over(z):
    """(exp(z) - 1) / z, 1 at z = 0."""
    small = jnp.abs(z) < _SMALL
    near = jnp.where(small, z, 0)
    series = jnp.ones_like(z)
    for term in range(_TERMS, 1, -1):
        series = 1 + near / term * series
    away = jnp.where(small, 1, z)  # the branch not taken must be finite for the gradient
    return jnp.where(small, series, _expm1(away) / away)


def _expm1(z):
    if not jnp.iscomplexobj(z):
        return jnp.expm1(z)
    # exp(x + iy) - 1 = (exp(x) - 1) cos y - 2 sin(y/2)^2 + i exp(x) sin y, with no difference of near equals
    x, y = z.real, z.imag
    return jnp.expm1(x) * jnp.cos(y) - 2 * jnp.sin(y / 2) ** 2 + 1j * (jnp.exp(x) * jnp.sin(y))
