"""Learning a linear functional with memory: the output is a weighted sum of all inputs so far.

    y_t = sum_{s=0}^{t} rho(s) x_{t-s},       x_t drawn from N(0, 1), independent

Source: the synthetic task of Wang and Li, "StableSSM" (2023, https://arxiv.org/abs/2311.14495), whose question is how
fast rho may forget for a recurrent model still to learn it. With the defaults below, a row of length 5 at rate 0.1:

    time       0      1      2      3      4
    rho     1.000  0.900  0.818  0.749  0.691     polynomial (1 + 0.1 s) ** -1.1, slower than any exponential
    inputs     1      0      0      2      0
    outputs 1.000  0.900  0.818  2.749  2.492     rho itself, and from 3 on twice rho once more

The sum runs over lags in float64 and is rounded once, so that the rows are the same on every machine.
"""

import dataclasses
import math
from typing import Literal

import jax
import numpy as np
from jaxtyping import Float

from memjax.tasks._base import ContinuousConfig, RealRows, changed

CONTINUOUS = True


@dataclasses.dataclass(frozen=True)
class LinearFunctionalConfig(ContinuousConfig):
    """Which functional, over how long a row. Raises ValueError where there is none."""

    length: int = 100
    """Length of a row, in tokens."""
    memory: Literal["polynomial", "exponential", "shift"] = "polynomial"
    """rho(s): `(1 + rate s) ** -power`, `exp(-rate s)`, or 1 at s = `delay` and 0 elsewhere."""
    rate: float = 0.1
    """How fast rho falls, per token (> 0); unused by `shift`."""
    power: float = 1.1
    """Exponent of the polynomial (> 0)."""
    delay: int = 10
    """Tokens by which `shift` delays its input, below `length`."""

    def __post_init__(self):
        for name in ("length", "rate", "power"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"linear_functional: {name} must be positive, got {getattr(self, name)}")
        if self.memory == "shift" and not 0 <= self.delay < self.length:
            raise ValueError(f"linear_functional: delay {self.delay} is not inside a row of length {self.length}")


Config = LinearFunctionalConfig


def rho(config: LinearFunctionalConfig) -> Float[np.ndarray, "T"]:
    """Returns the weights rho(0), ..., rho(length - 1), float64."""
    lags = np.arange(config.length, dtype=np.float64)
    if config.memory == "polynomial":
        return (1 + config.rate * lags) ** -config.power
    if config.memory == "exponential":
        return np.exp(-config.rate * lags)
    return (lags == config.delay).astype(np.float64)


def generate(rng: np.random.Generator, n: int, config: LinearFunctionalConfig) -> RealRows:
    """Draws `n` rows: float32 "inputs" and "outputs" [n, length, 1], and "mask" [n, length], 1 everywhere."""
    inputs = rng.standard_normal((n, config.length)).astype(np.float32)
    outputs = np.zeros((n, config.length))
    for lag, weight in enumerate(rho(config)):
        outputs[:, lag:] += weight * inputs[:, : config.length - lag]
    mask = np.ones((n, config.length), np.float32)
    return {"inputs": inputs[..., None], "outputs": outputs.astype(np.float32)[..., None], "mask": mask}


def score(
    predictions: Float[np.ndarray, "B T 1"] | Float[jax.Array, "B T 1"], data: RealRows, config: LinearFunctionalConfig
) -> dict[str, float]:
    """Scores predicted outputs.

    Args:
        predictions: [n, T, 1].
        data: what `generate` returned.
        config: unused here; every task takes it.

    Returns:
        "mse": squared error, mean over all scored tokens (the published metric); "relative_mse": the same over the
        mean square of the outputs, so that 1 is the error of answering 0.
    """
    mask = data["mask"][..., None].astype(np.float64)
    truth = data["outputs"].astype(np.float64)
    error = float((mask * (np.asarray(predictions, np.float64) - truth) ** 2).sum() / mask.sum())
    return {"mse": error, "relative_mse": error / float((mask * truth**2).sum() / mask.sum())}


def describe(config: LinearFunctionalConfig) -> dict[str, str | int | float]:
    """Returns the axes that a report shows: what shapes rho where it is not the default."""
    shown = {"polynomial": ("rate", "power"), "exponential": ("rate",), "shift": ("delay",)}[config.memory]
    return {"memory": config.memory, "length": config.length, **changed(config, *shown)}
