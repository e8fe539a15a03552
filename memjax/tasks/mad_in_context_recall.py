"""MAD in-context recall: keys and values in turn, every key worth the same value whenever it comes back.

Source: Poli et al., "Mechanistic Design and Scaling of Hybrid Architectures" (2024), https://arxiv.org/abs/2403.17844,
and the generator published with it (multi-query); with `np.random.default_rng(12345)` the rows equal the published
ones bit for bit.

One row of length 10; a target is the next token and stands AT the key (`.` is not scored). The last value is a target
only, so a row has length - 1 tokens:

    position   0   1   2   3   4   5   6   7   8
    tokens    k3  v1  k0  v2  k3  v1  k1  v2  k0
    targets    .   .   .   .  v1   .   .   .  v2      split="test"
              v1  k0  v2  k3  v1  k1  v2  k0  v2      split="train"

Keys are the ids [0, vocab // 2), values the rest. Keys are drawn with replacement, each gets a value of the row's own
when it first comes (two keys may share one), and the last key is one seen before. Published runs train on every next
token (12,800 rows, keys included, which nobody can predict) and test on values of keys seen before (1,280 rows): train
with `split="train"` and judge with the default. "accuracy" is macro accuracy (`_mad.macro_accuracy`): with few rows it
can lie far from micro accuracy.
"""

import dataclasses

import numpy as np

from memjax.tasks import _mad
from memjax.tasks._base import Predictions, Rows

_TASK = "mad_in_context_recall"


@dataclasses.dataclass(frozen=True)
class MADInContextRecallConfig(_mad.MADRecallConfig):
    """Which rows to draw. Raises ValueError where no such row exists."""

    def __post_init__(self):
        _mad.check_recall(_TASK, self, self.vocab_size // 2, 1, 4)
        if self.length % 2:
            raise ValueError(f"{_TASK}: length must be even, got {self.length}")


Config = MADInContextRecallConfig


def _kinds(config: MADInContextRecallConfig) -> tuple[int, int]:
    """How many keys and values there are."""
    return config.vocab_size // 2, config.vocab_size - config.vocab_size // 2


def generate(rng: np.random.Generator, n: int, config: MADInContextRecallConfig) -> Rows:
    """Draws `n` rows, one after the other.

    Args:
        rng: the numbers.
        n: number of rows.
        config: which rows.

    Returns:
        "tokens" and "targets", int32 [n, length - 1]; a target is the next token, or -1 (not scored).
    """
    rows = [_mad.draw_pairs(rng, config.length, *_kinds(config)) for _ in range(n)]
    return _mad.as_rows(np.array(rows, np.int64).reshape(n, config.length), *_kinds(config), config.split)


def score(predictions: Predictions, data: Rows, config: MADInContextRecallConfig) -> dict[str, float]:
    """Scores predicted values of keys seen before, per token, on rows of either split.

    Args:
        predictions: [n, T], the token predicted at each position.
        data: what `generate` returned.
        config: which rows these are.

    Returns:
        "accuracy": macro accuracy, the published metric; "micro_accuracy": share of the answers that is right.
    """
    return _mad.score_tokens(predictions, _mad.answers_of(data, *_kinds(config), config.split), config)


def scored(config: MADInContextRecallConfig) -> int:
    """Returns an upper bound of the scored positions in a row."""
    return config.length // 2 - 1 if config.split == "test" else config.length - 1


def describe(config: MADInContextRecallConfig) -> dict[str, int]:
    """Returns the axes that a report shows."""
    return {"vocab_size": config.vocab_size, "length": config.length}


def chance(config: MADInContextRecallConfig) -> float:
    """Returns the accuracy of guessing any of the values."""
    return 1.0 / _kinds(config)[1]
