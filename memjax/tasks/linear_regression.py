"""In-context linear regression: a linear function of its own in every row, to be learnt from examples of it.

    y_i = w . x_i,        w and every x_i drawn from N(0, I), w anew for each row

Source: Garg et al., "What Can Transformers Learn In-Context? A Case Study of Simple Function Classes" (2022,
https://arxiv.org/abs/2208.01066).

One row with 3 points of dimension 2, of length 6; an example is two tokens, x and then y, padded with zeros. The output
at x is its y, before it is seen:

    position      0            1          2            3          4            5
    inputs     (x00, x01)   (y0, 0)    (x10, x11)   (y1, 0)    (x20, x21)   (y2, 0)
    outputs       y0           0          y1           0          y2           0
    mask          1            0           1           0           1           0

With `dimension` examples seen the rest is determined; before that the least squares solution of smallest norm, the best
there is, errs by dimension - i after i examples, against the dimension of answering 0. So `mse` cannot vanish, but
`determined_mse` can. Defaults are the published 20 dimensions and 41 points; published training begins at 5 dimensions
(the others zero) and 11 points and grows: a mixture of configs does that here, with `active` dimensions.
"""

import dataclasses

import jax
import numpy as np
from jaxtyping import Float

from memjax.tasks._base import ContinuousConfig, RealRows, changed

CONTINUOUS = True


@dataclasses.dataclass(frozen=True)
class LinearRegressionConfig(ContinuousConfig):
    """Which functions, and how many examples of them. Raises ValueError where there are none."""

    dimension: int = 20
    """Numbers in an x."""
    points: int = 41
    """Examples in a row, which has twice as many tokens."""
    active: int | None = None
    """How many numbers of an x are drawn, the rest being 0; None: all."""

    def __post_init__(self):
        for name in ("dimension", "points"):
            if getattr(self, name) < 1:
                raise ValueError(f"linear_regression: {name} must be positive, got {getattr(self, name)}")
        if self.active is not None and not 1 <= self.active <= self.dimension:
            raise ValueError(
                f"linear_regression: active {self.active} does not lie between 1 and dimension {self.dimension}"
            )

    @property
    def features(self) -> int:
        return self.dimension


Config = LinearRegressionConfig


def generate(rng: np.random.Generator, n: int, config: LinearRegressionConfig) -> RealRows:
    """Draws `n` rows: all functions, then all x.

    Args:
        rng: the source of all draws.
        n: number of rows.
        config: which functions.

    Returns:
        float32 "inputs" [n, 2 * points, dimension], "outputs" [n, 2 * points, 1] and "mask" [n, 2 * points], 1 at
        every x.
    """
    active = config.dimension if config.active is None else config.active
    weights = rng.standard_normal((n, active))
    x = np.zeros((n, config.points, config.dimension), np.float32)
    x[:, :, :active] = rng.standard_normal((n, config.points, active))
    y = np.zeros((n, config.points))
    for i in range(active):  # in this order, so that rounding is the same on every machine
        y += weights[:, i, None] * x[:, :, i]
    inputs = np.zeros((n, 2 * config.points, config.dimension), np.float32)
    outputs = np.zeros((n, 2 * config.points, 1), np.float32)
    inputs[:, 0::2], inputs[:, 1::2, 0], outputs[:, 0::2, 0] = x, y, y
    mask = np.zeros(inputs.shape[:2], np.float32)
    mask[:, 0::2] = 1
    return {"inputs": inputs, "outputs": outputs, "mask": mask}


def score(
    predictions: Float[np.ndarray, "B T 1"] | Float[jax.Array, "B T 1"], data: RealRows, config: LinearRegressionConfig
) -> dict[str, float]:
    """Scores predicted y.

    Args:
        predictions: [n, T, 1].
        data: what `generate` returned.
        config: how many dimensions there are.

    Returns:
        "mse": squared error, mean over all points; "relative_mse": the same over the number of active dimensions, the
        expected error of answering 0 (the published metric); "determined_mse": `mse` over the points with at least as
        many examples before them as there are active dimensions, left out where a row has none.
    """
    active = config.dimension if config.active is None else config.active
    errors = np.square(np.asarray(predictions, np.float64) - data["outputs"].astype(np.float64))[:, 0::2, 0]
    scores = {"mse": float(errors.mean()), "relative_mse": float(errors.mean() / active)}
    if config.points > active:
        scores["determined_mse"] = float(errors[:, active:].mean())
    return scores


def describe(config: LinearRegressionConfig) -> dict[str, int]:
    """Returns the axes that a report shows."""
    return {"dimension": config.dimension, "points": config.points, **changed(config, "active")}
