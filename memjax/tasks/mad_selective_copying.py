"""MAD selective copying: repeat the tokens that stand scattered among blanks.

Source: Poli et al., "Mechanistic Design and Scaling of Hybrid Architectures" (2024), https://arxiv.org/abs/2403.17844,
and the generator published with it.

One row of length 12 with 3 tokens to copy; blank `_` is the id vocab - 2, the copy token C is vocab - 1 (`.` is not
scored). A token is asked AT the blank in its place, so nothing is predicted at C:

    position   0   1   2   3   4   5   6   7   8   9  10  11
    tokens     _   _   a   _   b   _   _   c   C   _   _   _
    targets    .   .   .   .   .   .   .   .   .   a   b   c

The tokens are drawn with replacement from the ids [0, vocab - 2). Each blank goes before a token drawn uniformly, so
the last one always stands right before C.

Where we differ: the published generator draws the blanks' places from numpy's global stream; here all numbers come from
`rng`. Given the same draws, `place` gives the published rows bit for bit.
"""

import dataclasses

import numpy as np
from jaxtyping import Int

from memjax.tasks import _mad
from memjax.tasks._base import Predictions, Rows, TaskConfig

_TASK = "mad_selective_copying"


@dataclasses.dataclass(frozen=True)
class MADSelectiveCopyingConfig(TaskConfig):
    """Which rows to draw. Raises ValueError where no such row exists."""

    vocab_size: int = 16
    """Number of distinct token ids, blank and copy token included; published: 16, 32, 64, 128."""
    length: int = 256
    """Length of a row, in tokens, more than 2 * copies + 1; published: 256, 512, 1024."""
    copies: int = 16
    """Tokens to copy; published: 16, 32, 64, 96."""

    def __post_init__(self):
        if self.copies < 1:
            raise ValueError(f"{_TASK}: copies must be positive, got {self.copies}")
        if self.vocab_size < 3:
            raise ValueError(f"{_TASK}: vocab_size must be at least 3, got {self.vocab_size}")
        if self.length < 2 * self.copies + 2:
            raise ValueError(
                f"{_TASK}: {self.copies} copies need a length of at least {2 * self.copies + 2}, got {self.length}"
            )


Config = MADSelectiveCopyingConfig


def generate(rng: np.random.Generator, n: int, config: MADSelectiveCopyingConfig) -> Rows:
    """Draws `n` rows: the tokens of all rows, then the places of all blanks.

    Args:
        rng: the numbers.
        n: number of rows.
        config: which rows.

    Returns:
        "tokens" and "targets", int32 [n, length]; a target is the token to be copied, or -1 (not scored).
    """
    blanks = config.length - 2 * config.copies - 1
    copied = rng.integers(config.vocab_size - 2, size=(n, config.copies))
    return place(copied, rng.integers(config.copies, size=(n, blanks)), config)


def place(copied: Int[np.ndarray, "B C"], before: Int[np.ndarray, "B K"], config: MADSelectiveCopyingConfig) -> Rows:
    """Returns the rows of the tokens `copied`, with a blank before token `before[k]` for each k."""
    start, copies = config.length - config.copies, config.copies
    tokens = np.full((len(copied), config.length), config.vocab_size - 2, np.int32)
    earlier = (before[:, :, None] <= np.arange(copies)).sum(1)  # blanks that stand before each token
    np.put_along_axis(tokens, np.arange(copies) + earlier, copied.astype(np.int32), axis=1)
    tokens[:, start - 1] = config.vocab_size - 1
    targets = np.full_like(tokens, -1)
    targets[:, start:] = copied
    return {"tokens": tokens, "targets": targets}


def score(predictions: Predictions, data: Rows, config: MADSelectiveCopyingConfig) -> dict[str, float]:
    """Scores predicted tokens.

    Args:
        predictions: [n, T], the token predicted at each position.
        data: what `generate` returned.
        config: which rows these are.

    Returns:
        "accuracy": macro accuracy, the published metric; "micro_accuracy": share of the copied tokens that is right.
    """
    return _mad.score_tokens(predictions, data["targets"], config)


def scored(config: MADSelectiveCopyingConfig) -> int:
    """Returns the number of scored positions in a row."""
    return config.copies


def describe(config: MADSelectiveCopyingConfig) -> dict[str, int]:
    """Returns the axes that a report shows."""
    return {"vocab_size": config.vocab_size, "length": config.length, "copies": config.copies}


def chance(config: MADSelectiveCopyingConfig) -> float:
    """Returns the accuracy of guessing any of the tokens that are copied."""
    return 1.0 / (config.vocab_size - 2)
