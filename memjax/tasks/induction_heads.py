"""Induction heads: what stood behind the special token the last time?

Source: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces" (2023),
https://arxiv.org/abs/2312.00752, section 4.1.2 and appendix E.1, after Olsson et al. (2022),
https://arxiv.org/abs/2209.11895. The paper's code was never published.

One row of length 10; the special token S is the id vocab - 1 (`.` is not scored). It stands twice, and the token behind
the first one is asked AT the second one, the end of the row:

    position   0   1   2   3   4   5   6   7   8   9
    tokens     c   a   S   b   a   c   b   a   c   S
    targets    .   .   .   .   .   .   .   .   .   b

All other tokens are drawn with replacement from the ids [0, vocab - 1); S comes first at any of the positions
[0, length - 2), each as likely, so that every distance from 2 to length - 1 is asked.

Protocol: train at length 256 with 16 ids (fresh rows, batch 8, 204,800 steps, two layers of width 64), test the same
model at lengths 2**6 to 2**20. One position of a row is scored. The paper gives no distribution of the first place and
no numbering; ours are as above.
"""

import dataclasses

import numpy as np

from memjax.tasks._base import Predictions, Rows, TaskConfig
from memjax.tasks._per_row import last_accuracy


@dataclasses.dataclass(frozen=True)
class InductionHeadsConfig(TaskConfig):
    """Which rows to draw. Raises ValueError where no such row exists."""

    vocab_size: int = 16
    """Number of distinct token ids, the special one included."""
    length: int = 256
    """Length of a row, in tokens; published: 256 in training, 64 to 1,048,576 at test."""

    def __post_init__(self):
        if self.vocab_size < 2:
            raise ValueError(f"induction_heads: vocab_size must be at least 2, got {self.vocab_size}")
        if self.length < 3:
            raise ValueError(f"induction_heads: length must be at least 3, got {self.length}")


Config = InductionHeadsConfig


def generate(rng: np.random.Generator, n: int, config: InductionHeadsConfig) -> Rows:
    """Draws `n` rows: the ordinary tokens of all rows, then the first places of the special token.

    Args:
        rng: the numbers.
        n: number of rows.
        config: which rows.

    Returns:
        "tokens" and "targets", int32 [n, length]; the target of the last position is a token, all others -1.
    """
    tokens = rng.integers(config.vocab_size - 1, size=(n, config.length), dtype=np.int32)
    first = rng.integers(config.length - 2, size=n)
    tokens[np.arange(n), first] = tokens[:, -1] = config.vocab_size - 1
    targets = np.full_like(tokens, -1)
    targets[:, -1] = tokens[np.arange(n), first + 1]
    return {"tokens": tokens, "targets": targets}


def score(predictions: Predictions, data: Rows, config: InductionHeadsConfig) -> dict[str, float]:
    """Scores predicted tokens.

    Args:
        predictions: [n, T], the token predicted at each position.
        data: what `generate` returned.
        config: unused here; every task takes it.

    Returns:
        "accuracy": share of rows whose answer is right.
    """
    return {"accuracy": last_accuracy(predictions, data)}


def scored(config: InductionHeadsConfig) -> int:
    """Returns the number of scored positions in a row."""
    return 1


def describe(config: InductionHeadsConfig) -> dict[str, int]:
    """Returns the axes that a report shows."""
    return {"vocab_size": config.vocab_size, "length": config.length}


def chance(config: InductionHeadsConfig) -> float:
    """Returns the accuracy of guessing any ordinary token."""
    return 1.0 / (config.vocab_size - 1)
