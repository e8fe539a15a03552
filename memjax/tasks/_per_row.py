"""Accuracy as the tasks count it: of scored positions, of whole rows, of the last answer."""

import numpy as np
from jaxtyping import Bool

from memjax.tasks._base import Predictions, Rows


def hits(predictions: Predictions, data: Rows) -> tuple[Bool[np.ndarray, "B T"], Bool[np.ndarray, "B T"]]:
    """Returns where a prediction is right, and where one is scored at all."""
    mask = data["targets"] >= 0
    return (np.asarray(predictions) == data["targets"]) & mask, mask


def score_rows(predictions: Predictions, data: Rows) -> dict[str, float]:
    """Returns "accuracy", the mean over the scored positions of a row and then over rows, and "row_accuracy", the share
    of rows with every answer right. A row without a scored position has no part in either."""
    right, mask = hits(predictions, data)
    per_row = right.sum(1)[mask.any(1)] / mask.sum(1)[mask.any(1)]
    return {"accuracy": float(per_row.mean()), "row_accuracy": float((per_row == 1).mean())}


def score_answers(predictions: Predictions, data: Rows, tokens: str = "token_accuracy") -> dict[str, float]:
    """Returns "accuracy", the share of rows whose one answer is right as a whole, and under the name `tokens` the share
    of right tokens of all answers."""
    right, mask = hits(predictions, data)
    return {"accuracy": float((right == mask).all(1).mean()), tokens: float(right[mask].mean())}


def last_accuracy(predictions: Predictions, data: Rows) -> float:
    """Returns the share of rows whose last scored position is right."""
    right, mask = hits(predictions, data)
    last = mask.shape[1] - 1 - np.argmax(mask[:, ::-1], axis=1)
    return float(right[np.arange(len(right)), last].mean())


def scale(accuracy: float, chance: float) -> float:
    """Returns the accuracy on a scale where `chance` is 0 and all right is 1."""
    return (accuracy - chance) / (1 - chance)
