"""MAD compression: random tokens, then a token after which all of them have to be told from memory.

Source: Poli et al., "Mechanistic Design and Scaling of Hybrid Architectures" (2024), https://arxiv.org/abs/2403.17844,
and the generator published with it; with `np.random.default_rng(12345)` the tokens to compress equal the published
ones bit for bit.

One sequence of length 5 as a row of 9 tokens; C, the compression token, is the id vocab - 1 (`.` is not scored):

    position   0   1   2   3   4   5   6   7   8
    tokens     a   b   c   d   C   C   C   C   C
    targets    .   .   .   .   a   b   c   d   C

The first length - 1 tokens are drawn from the ids [0, vocab - 1). The last target is C itself, which everybody knows:
the published score counts it, and so does ours.

Where we differ: in the published task an autoencoder reads the first `length` tokens, and a decoder that is told a
position rebuilds each of them from the output at C alone. Here a language model tells them one after the other while it
reads further C. What a recurrent model tells still comes out of its state at the first C; attention can look back at
the tokens, so it is not comparable with the published figures. The beginning of the answer is not given to the model.
"""

import dataclasses

import numpy as np

from memjax.tasks import _mad
from memjax.tasks._base import Predictions, Rows, TaskConfig

_TASK = "mad_compression"


@dataclasses.dataclass(frozen=True)
class MADCompressionConfig(TaskConfig):
    """Which rows to draw. Raises ValueError where no such row exists."""

    vocab_size: int = 16
    """Number of distinct token ids, the compression token included; published: 16, 32, 64, 128."""
    length: int = 32
    """Tokens to tell, the compression token included; published: 32, 64, 128, 256. A row has 2 * length - 1."""

    def __post_init__(self):
        for name in ("vocab_size", "length"):
            if getattr(self, name) < 2:
                raise ValueError(f"{_TASK}: {name} must be at least 2, got {getattr(self, name)}")


Config = MADCompressionConfig


def generate(rng: np.random.Generator, n: int, config: MADCompressionConfig) -> Rows:
    """Draws `n` rows.

    Args:
        rng: the numbers.
        n: number of rows.
        config: which rows.

    Returns:
        "tokens" and "targets", int32 [n, 2 * length - 1]; a target is the token to be told, or -1 (not scored).
    """
    last = config.length - 1
    tokens = np.full((n, config.length + last), config.vocab_size - 1, np.int32)
    tokens[:, :last] = rng.integers(config.vocab_size - 1, size=(n, last))
    targets = np.full_like(tokens, -1)
    targets[:, last:] = tokens[:, : config.length]
    return {"tokens": tokens, "targets": targets}


def score(predictions: Predictions, data: Rows, config: MADCompressionConfig) -> dict[str, float]:
    """Scores predicted tokens.

    Args:
        predictions: [n, T], the token predicted at each position.
        data: what `generate` returned.
        config: which rows these are.

    Returns:
        "accuracy": macro accuracy, the published metric; "micro_accuracy": share of the tokens that is right.
    """
    return _mad.score_tokens(predictions, data["targets"], config)


def scored(config: MADCompressionConfig) -> int:
    """Returns the number of scored positions in a row."""
    return config.length


def describe(config: MADCompressionConfig) -> dict[str, int]:
    """Returns the axes that a report shows."""
    return {"vocab_size": config.vocab_size, "length": config.length}


def chance(config: MADCompressionConfig) -> float:
    """Returns the macro accuracy of guessing any random token, and the compression token at the end.

    That is 1 / (vocab_size - 1) for all ids but one, and 1 for the compression token.
    """
    return 2.0 / config.vocab_size
