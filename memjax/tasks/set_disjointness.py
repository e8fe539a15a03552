"""Set disjointness: two lists, one after the other; which token stands in both?

Source: Arora et al., "Just Read Twice: Closing the Recall Gap for Recurrent Language Models" (2024),
https://arxiv.org/abs/2407.05483, and the generator published with it.

One row with lists of 3 and 4 tokens; the answer is asked AT the last position (`.` is not scored):

    position   0   1   2   3   4   5   6   7   8   9
    tokens    [1]  a   b   c  [2]  x   b   y   z  [3]
    targets    .   .   .   .   .   .   .   .   .   b

The ids 0 to 3 are special: 1 opens the first list, 2 the second one, 3 asks, and 0 is unused here (the paper's mask).
All tokens of a row are drawn without replacement from the ids [4, vocab); then one token of the second list, anywhere
in it, is overwritten by one of the first. Whoever reads once has to keep the first list: the point of the task is that
a long list before a short one needs a large state, a short one before a long one a small one.

Protocol: 2048 ids; trained on 20,000 rows each of the list lengths (4, 16), (16, 4), (8, 32), (32, 8), (64, 16),
(16, 64), (4, 128), (128, 4), (16, 256), (256, 16), (4, 256), (256, 4); tested on 1000 rows each, up to (16, 768) and
(768, 16). The published code splits the ids into random halves for each row, one half per list, before it draws from
them: the same distribution, but that a list holds half of the ids at most.
"""

import dataclasses

import numpy as np

from memjax.tasks._base import Predictions, Rows, TaskConfig
from memjax.tasks._per_row import last_accuracy

SPECIAL = 4
"""Ids below are no members of a list."""
FIRST, SECOND, ASK = 1, 2, 3


@dataclasses.dataclass(frozen=True)
class SetDisjointnessConfig(TaskConfig):
    """Which rows to draw. Raises ValueError where no such row exists."""

    vocab_size: int = 2048
    """Number of distinct token ids, the four special ones included."""
    first: int = 16
    """Tokens of the first list."""
    second: int = 64
    """Tokens of the second list. A row has first + second + 3 tokens."""

    def __post_init__(self):
        for name in ("first", "second"):
            if getattr(self, name) < 1:
                raise ValueError(f"set_disjointness: {name} must be positive, got {getattr(self, name)}")
        if self.vocab_size - SPECIAL < self.first + self.second:
            raise ValueError(
                f"set_disjointness: lists of {self.first} and {self.second} tokens need a vocab_size of at least "
                f"{self.first + self.second + SPECIAL}, got {self.vocab_size}"
            )


Config = SetDisjointnessConfig


def generate(rng: np.random.Generator, n: int, config: SetDisjointnessConfig) -> Rows:
    """Draws `n` rows: the tokens of each, then which tokens of all first lists come back, then where.

    Args:
        rng: the numbers.
        n: number of rows.
        config: which rows.

    Returns:
        "tokens" and "targets", int32 [n, first + second + 3]; the target of the last position is the shared token,
        all others are -1.
    """
    size, row = config.first + config.second, np.arange(n)
    drawn = [rng.choice(config.vocab_size - SPECIAL, size, replace=False) for _ in range(n)]
    members = SPECIAL + np.array(drawn, np.int32).reshape(n, size)
    shared = members[row, rng.integers(config.first, size=n)]
    members[row, config.first + rng.integers(config.second, size=n)] = shared
    first, second, ask = (np.full((n, 1), token, np.int32) for token in (FIRST, SECOND, ASK))
    tokens = np.concatenate(
        [first, members[:, : config.first], second, members[:, config.first :], ask], axis=1, dtype=np.int32
    )
    targets = np.full_like(tokens, -1)
    targets[:, -1] = shared
    return {"tokens": tokens, "targets": targets}


def score(predictions: Predictions, data: Rows, config: SetDisjointnessConfig) -> dict[str, float]:
    """Scores predicted tokens.

    Args:
        predictions: [n, T], the token predicted at each position.
        data: what `generate` returned.
        config: unused here; every task takes it.

    Returns:
        "accuracy": share of rows whose answer is right.
    """
    return {"accuracy": last_accuracy(predictions, data)}


def scored(config: SetDisjointnessConfig) -> int:
    """Returns the number of scored positions in a row."""
    return 1


def describe(config: SetDisjointnessConfig) -> dict[str, int]:
    """Returns the axes that a report shows."""
    return {"first": config.first, "second": config.second}


def chance(config: SetDisjointnessConfig) -> float:
    """Returns the accuracy of guessing any token of the shorter list, which takes no comparison of the lists."""
    return 1.0 / min(config.first, config.second)
