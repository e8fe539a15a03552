"""How a trained weight becomes the rate at which a state decays (StableSSM, Wang and Li, arXiv 2311.14495).

                 Re A, continuous      modulus of the decay of one step, discrete
    direct       w                     w                          no constraint: training may leave the stable side
    exp          -exp(w)               exp(-exp(w))
    softplus     -softplus(w)          exp(-softplus(w))
    best         -1 / (a w^2 + b)      1 - 1 / (a w^2 + b)        a = 1, b = 1/2

"best" makes the gradient of the loss in w at most proportional to |w|, however slow the decay (section 4 there).
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Reparameterization = Literal["direct", "exp", "softplus", "best"]
_A, _B = 1.0, 0.5


def real_part(weight: Float[Array, "*shape"], kind: Reparameterization) -> Float[Array, "*shape"]:
    """Re A of the weight, per unit of time."""
    if kind == "direct":
        return weight
    return -_rate(weight, kind)


def modulus(weight: Float[Array, "*shape"], kind: Reparameterization) -> Float[Array, "*shape"]:
    """Size of the decay over one step; "best" lies in [-1, 1)."""
    if kind == "direct":
        return weight
    if kind == "best":
        return 1 - _rate(weight, kind)
    return jnp.exp(-_rate(weight, kind))


def weight_of_real_part(real: Float[np.ndarray, "*shape"], kind: Reparameterization) -> Float[np.ndarray, "*shape"]:
    """The weight whose `real_part` is `real` < 0; numpy, as initial eigenvalues are known before anything is traced.

    Raises:
        ValueError: an unknown kind, or a rate beyond 2, which "best" does not reach.
    """
    if kind == "direct":
        return real
    if kind == "best" and np.max(-real) > 1 / _B:
        raise ValueError(f"reparameterization='best' reaches rates up to {1 / _B}, not {np.max(-real)}")
    return _weight(-real, kind, np)


def weight_of_log_modulus(log_modulus: Float[Array, "*shape"], kind: Reparameterization) -> Float[Array, "*shape"]:
    """The weight whose `modulus` is exp(log_modulus), log_modulus < 0. Taken in logarithms because 1 - modulus counts.

    Raises:
        ValueError: an unknown kind.
    """
    if kind == "direct":
        return jnp.exp(log_modulus)
    return _weight(-jnp.expm1(log_modulus) if kind == "best" else -log_modulus, kind, jnp)


def _rate(weight, kind):
    """Positive."""
    if kind == "exp":
        return jnp.exp(weight)
    if kind == "softplus":
        return jax.nn.softplus(weight)
    if kind == "best":
        return 1 / (_A * weight**2 + _B)
    raise ValueError(f"unknown reparameterization {kind!r}; one of direct, exp, softplus, best")


def _weight(rate, kind, numpy):
    if kind == "exp":
        return numpy.log(rate)
    if kind == "softplus":
        return rate + numpy.log(-numpy.expm1(-rate))
    if kind == "best":
        return numpy.sqrt((1 / rate - _B) / _A)
    raise ValueError(f"unknown reparameterization {kind!r}; one of direct, exp, softplus, best")
