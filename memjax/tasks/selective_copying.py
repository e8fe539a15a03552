"""Selective copying: repeat the few tokens that stand at random places in a long row of blanks.

Source: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces" (2023),
https://arxiv.org/abs/2312.00752, section 4.1.1 and appendix E.1, after the denoising task of Jing et al. (2017),
https://arxiv.org/abs/1706.02761. The code of these runs was never published.

One row of length 8 with 3 tokens to copy; blank `_` is the id 0, the marker M is vocab - 1 (`.` is not scored). The
markers follow the `length` tokens, and a token is asked AT the marker in its place:

    position   0   1   2   3   4   5   6   7   8   9  10
    tokens     _   a   _   _   b   _   c   _   M   M   M
    targets    .   .   .   .   .   .   .   .   a   b   c

The tokens are drawn with replacement from the ids [1, vocab - 1), their places without replacement from all `length`.

Protocol: length 4096, 16 ids, 16 tokens, two layers of width 64, fresh rows of batch 64 for 400,000 steps. The paper
speaks of "accuracy" and does not say of what: "accuracy" here is per token, "row_accuracy" per row. MAD's variant
(`mad_selective_copying`) has blanks to answer at, and its last token is always near. Where we differ: the default
`length` is short; how blanks and markers are numbered is ours.
"""

import dataclasses

import numpy as np

from memjax.tasks._base import Predictions, Rows, TaskConfig
from memjax.tasks._per_row import score_rows


@dataclasses.dataclass(frozen=True)
class SelectiveCopyingConfig(TaskConfig):
    """Which rows to draw. Raises ValueError where no such row exists."""

    vocab_size: int = 16
    """Number of distinct token ids, blank and marker included."""
    length: int = 256
    """Tokens among which those to copy stand; published: 4096. A row has `copies` more."""
    copies: int = 16
    """Tokens to copy."""

    def __post_init__(self):
        if self.copies < 1:
            raise ValueError(f"selective_copying: copies must be positive, got {self.copies}")
        if self.vocab_size < 3:
            raise ValueError(f"selective_copying: vocab_size must be at least 3, got {self.vocab_size}")
        if self.length < self.copies:
            raise ValueError(f"selective_copying: length {self.length} has no room for {self.copies} copies")


Config = SelectiveCopyingConfig


def generate(rng: np.random.Generator, n: int, config: SelectiveCopyingConfig) -> Rows:
    """Draws `n` rows: the tokens of all rows, then their places.

    Args:
        rng: the numbers.
        n: number of rows.
        config: which rows.

    Returns:
        "tokens" and "targets", int32 [n, length + copies]; a target is the token to be copied, or -1 (not scored).
    """
    copied = rng.integers(1, config.vocab_size - 1, size=(n, config.copies), dtype=np.int32)
    chosen = [rng.choice(config.length, config.copies, replace=False, shuffle=False) for _ in range(n)]
    places = np.sort(np.array(chosen, np.int64).reshape(n, config.copies), axis=1)
    tokens = np.zeros((n, config.length + config.copies), np.int32)
    np.put_along_axis(tokens, places, copied, axis=1)
    tokens[:, config.length :] = config.vocab_size - 1
    targets = np.full_like(tokens, -1)
    targets[:, config.length :] = copied
    return {"tokens": tokens, "targets": targets}


def score(predictions: Predictions, data: Rows, config: SelectiveCopyingConfig) -> dict[str, float]:
    """Scores predicted tokens.

    Args:
        predictions: [n, T], the token predicted at each position.
        data: what `generate` returned.
        config: unused here; every task takes it.

    Returns:
        "accuracy": share of the copied tokens that is right; "row_accuracy": share of rows with every token right.
    """
    return score_rows(predictions, data)


def scored(config: SelectiveCopyingConfig) -> int:
    """Returns the number of scored positions in a row."""
    return config.copies


def describe(config: SelectiveCopyingConfig) -> dict[str, int]:
    """Returns the axes that a report shows."""
    return {"vocab_size": config.vocab_size, "length": config.length, "copies": config.copies}


def chance(config: SelectiveCopyingConfig) -> float:
    """Returns the accuracy of guessing any of the tokens that are copied."""
    return 1.0 / (config.vocab_size - 2)
