"""Continuous MQAR: a token is a key vector with its value vector; later the key comes alone.

Source: the variant `continuous_mqar` of the repository of "Zoology" (Arora et al. 2023,
https://arxiv.org/abs/2312.04927, https://github.com/HazyResearch/zoology). Key and value stand in one token, so that a
single layer without convolution suffices: the state update alone is on trial.

One row with 3 pairs, of length 6 (`0` is a vector of zeros; a row of numbers where mask is 1 is scored):

    position     0      1      2      3      4      5
    inputs     k0|v0  k1|v1  k2|v2  k1|0   k2|0   k0|0
    outputs      0      0      0     v1     v2     v0
    mask         0      0      0      1      1      1

Keys are uniform on the unit sphere, values independent standard normals, both drawn anew for every row; every key is
asked once, in random order. Keys are not orthogonal: what a sum of outer products (linear attention) answers is mixed
with the values of like keys, the more so the more pairs there are for `key_size`.

Where we differ: the published variant takes vectors from two tables, which its user provides, and scores the nearest of
all values of the table. Here nothing repeats between rows, so that nothing can be learnt by heart, and
`nearest_accuracy` looks for the nearest among the values of the row. One pass over the pairs.
"""

import dataclasses

import jax
import numpy as np
from jaxtyping import Float

from memjax.tasks._base import ContinuousConfig, RealRows, changed

CONTINUOUS = True


@dataclasses.dataclass(frozen=True)
class ContinuousMQARConfig(ContinuousConfig):
    """Which rows to draw. Raises ValueError where there are none."""

    pairs: int = 8
    """Key-value pairs in a row, which has twice as many tokens."""
    key_size: int = 16
    """Numbers in a key, at least 2."""
    value_size: int = 16
    """Numbers in a value."""

    def __post_init__(self):
        for name, least in (("pairs", 1), ("key_size", 2), ("value_size", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"mqar_continuous: {name} must be at least {least}, got {getattr(self, name)}")

    @property
    def features(self) -> int:
        return self.key_size + self.value_size

    @property
    def outputs(self) -> int:
        return self.value_size


Config = ContinuousMQARConfig


def generate(rng: np.random.Generator, n: int, config: ContinuousMQARConfig) -> RealRows:
    """Draws `n` rows: all keys, all values, the orders of the questions.

    Args:
        rng: the source of all draws.
        n: number of rows.
        config: which rows.

    Returns:
        float32 "inputs" [n, 2 * pairs, key_size + value_size], "outputs" [n, 2 * pairs, value_size] and "mask"
        [n, 2 * pairs], 1 at the questions.
    """
    keys = rng.standard_normal((n, config.pairs, config.key_size))
    keys /= np.sqrt(np.square(keys).sum(-1, keepdims=True))
    values = rng.standard_normal((n, config.pairs, config.value_size))
    asked = rng.permuted(np.tile(np.arange(config.pairs), (n, 1)), axis=1)[..., None]
    answers = np.take_along_axis(values, asked, axis=1)
    inputs = np.zeros((n, 2 * config.pairs, config.features), np.float32)
    inputs[:, : config.pairs] = np.concatenate([keys, values], axis=2)
    inputs[:, config.pairs :, : config.key_size] = np.take_along_axis(keys, asked, axis=1)
    outputs = np.concatenate([np.zeros_like(values), answers], axis=1).astype(np.float32)
    mask = np.zeros(inputs.shape[:2], np.float32)
    mask[:, config.pairs :] = 1
    return {"inputs": inputs, "outputs": outputs, "mask": mask}


def score(
    predictions: Float[np.ndarray, "B T O"] | Float[jax.Array, "B T O"], data: RealRows, config: ContinuousMQARConfig
) -> dict[str, float]:
    """Scores predicted values.

    Args:
        predictions: [n, T, value_size].
        data: what `generate` returned.
        config: how many pairs there are.

    Returns:
        "mse": squared error of a number, mean over all scored ones; "relative_mse": the same over their mean square,
        so that 1 is the error of answering 0; "nearest_accuracy": share of answers that are nearer to the right value
        than to any other of the row.
    """
    answers = np.asarray(predictions, np.float64)[:, config.pairs :]
    truth = data["outputs"][:, config.pairs :].astype(np.float64)
    error = float(np.square(answers - truth).mean())
    # |a - v|^2 without |a|^2, which is the same for all v
    distances = np.square(truth).sum(-1)[:, None, :] - 2 * answers @ np.swapaxes(truth, 1, 2)
    nearest = distances.argmin(-1) == np.arange(config.pairs)
    return {
        "mse": error,
        "relative_mse": error / float(np.square(truth).mean()),
        "nearest_accuracy": float(nearest.mean()),
    }


def describe(config: ContinuousMQARConfig) -> dict[str, int]:
    """Returns the axes that a report shows."""
    return {"pairs": config.pairs, "key_size": config.key_size, **changed(config, "value_size")}


def chance(config: ContinuousMQARConfig) -> float:
    """Returns the `nearest_accuracy` of answering with any value of the row."""
    return 1.0 / config.pairs
