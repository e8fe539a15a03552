"""Parity: is the number of ones so far odd? The smallest task of state tracking.

Sources: Hahn, "Theoretical Limitations of Self-Attention" (2019, https://arxiv.org/abs/1906.06755); the lengths and the
scaled accuracy of Grazzi et al., "Unlocking State-Tracking in Linear RNNs Through Negative Eigenvalues" (2024,
https://arxiv.org/abs/2411.12537); the two ways to score of the repository of "Zoology" (`parity`, `cumulative_parity`).

One row of length 9, `=` being token 2:

    position               0   1   2   3   4   5   6   7   8
    tokens                 1   0   1   1   0   0   1   1   1
    targets                1   1   0   1   1   1   0   1   0     scored="all": after every bit

    tokens                 1   0   1   1   0   =   =   =   =
    targets                .   .   .   .   .   1   .   .   .     scored="last": once, at the first `=`; here 5 bits

A linear recurrence whose transition has only eigenvalues from 0 to 1 cannot do it at any length (Grazzi et al.); what
is learned at one length says little, so train up to `length=40` and evaluate from 40 to 256: a config for each.

Traps: with `scored="last"` and long rows only, no gradient says that single bits matter, and training stays at chance:
`min_length` mixes short rows in (published: from 3). Half of all answers are 0, so accuracy is read from 0.5 up.
"""

import dataclasses
from typing import Literal

import numpy as np

from memjax.tasks._base import Predictions, Rows, TaskConfig, changed
from memjax.tasks._per_row import last_accuracy, scale, score_rows

END = 2
"""The token that asks, and fills what is left of a row."""


@dataclasses.dataclass(frozen=True)
class ParityConfig(TaskConfig):
    """Which rows of bits to draw. Raises ValueError where no such row exists."""

    vocab_size: int = 3
    """Number of distinct token ids, at least 3: the bits 0 and 1, and `=`."""
    length: int = 40
    """Length of a row, in tokens; with scored="last" one of them is `=`."""
    min_length: int | None = None
    """Fewest bits of a row, whose number is drawn uniformly from there on; None: every row is full."""
    scored: Literal["all", "last"] = "all"
    """Ask after every bit, or once after the last."""

    def __post_init__(self):
        if self.vocab_size < 3:
            raise ValueError(f"parity: vocab_size must be at least 3, got {self.vocab_size}")
        if self.scored not in ("all", "last"):
            raise ValueError(f'parity: scored must be "all" or "last", got {self.scored!r}')
        if _most(self) < 1:
            raise ValueError(f"parity: length {self.length} leaves no room for a bit")
        if self.min_length is not None and not 1 <= self.min_length <= _most(self):
            raise ValueError(f"parity: min_length {self.min_length} does not lie between 1 and {_most(self)} bits")


Config = ParityConfig


def _most(config: ParityConfig) -> int:
    """Bits in a row, at most."""
    return config.length - (config.scored == "last")


def generate(rng: np.random.Generator, n: int, config: ParityConfig) -> Rows:
    """Draws `n` rows: first how many bits each has, then the bits.

    Args:
        rng: the source of all draws.
        n: number of rows.
        config: which rows.

    Returns:
        "tokens" and "targets", int32 [n, length]; a target is 0 (even), 1 (odd), or -1 (not scored).
    """
    most = _most(config)
    counts = rng.integers(config.min_length or most, most + 1, size=(n, 1))
    place = np.arange(config.length)
    bits = np.where(place < counts, rng.integers(2, size=(n, config.length)), 0)
    asked = place == counts if config.scored == "last" else place < counts
    return {
        "tokens": np.where(place < counts, bits, END).astype(np.int32),
        "targets": np.where(asked, bits.cumsum(1) % 2, -1).astype(np.int32),
    }


def score(predictions: Predictions, data: Rows, config: ParityConfig) -> dict[str, float]:
    """Scores predicted parities.

    Args:
        predictions: [n, T], the token predicted at each position.
        data: what `generate` returned.
        config: which rows; for the chance level.

    Returns:
        "accuracy": mean over the scored positions of a row, then over rows; "row_accuracy": share of rows with every
        answer right; "last_accuracy": share of rows right at their last scored position; "scaled_accuracy":
        `last_accuracy` with chance at 0 and all right at 1 (the published metric).
    """
    last = last_accuracy(predictions, data)
    scaled = scale(last, chance(config))
    return {**score_rows(predictions, data), "last_accuracy": last, "scaled_accuracy": scaled}


def scored(config: ParityConfig) -> int:
    """Returns an upper bound of the scored positions in a row."""
    return config.length if config.scored == "all" else 1


def describe(config: ParityConfig) -> dict[str, int | str]:
    """Returns the axes that a report shows."""
    return {"scored": config.scored, "length": config.length, **changed(config, "min_length")}


def chance(config: ParityConfig) -> float:
    """Returns the accuracy of guessing 0 or 1."""
    return 0.5
