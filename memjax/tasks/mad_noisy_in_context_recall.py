"""MAD noisy in-context recall: keys and values in turn, some of the pairs replaced by two tokens that mean nothing.

Source: Poli et al., "Mechanistic Design and Scaling of Hybrid Architectures" (2024), https://arxiv.org/abs/2403.17844,
and the generator published with it (multi-query); with `np.random.default_rng(12345)` the rows equal the published
ones bit for bit.

As `mad_in_context_recall`, with noise tokens x; one row of length 12 (`.` is not scored):

    position   0   1   2   3   4   5   6   7   8   9  10
    tokens    k3  v1  x5  x2  k0  v2  k3  v1  x5  x0  k0
    targets    .   .   .   .   .   .  v1   .   .   .  v2      split="test"
              v1  x5  x2  k0  v2  k3  v1  x5  x0  k0  v2      split="train"

The last `noise_vocab_size` ids are noise; of the others the lower half are keys, the upper half values. Each pair but
one is noise with chance `noise`; the last one is a key seen before with its value.

Where we differ: where a published row would be noise alone (which ends there in an error), its last pair before the
question is a pair.
"""

import dataclasses

import numpy as np

from memjax.tasks import _mad
from memjax.tasks._base import Predictions, Rows

_TASK = "mad_noisy_in_context_recall"


@dataclasses.dataclass(frozen=True)
class MADNoisyInContextRecallConfig(_mad.MADRecallConfig):
    """Which rows to draw. Raises ValueError where no such row exists."""

    vocab_size: int = 32
    """Number of distinct token ids, noise included; published: 32, 48, 80, 144."""
    noise_vocab_size: int = 16
    """How many of them are noise."""
    noise: float = 0.2
    """Chance of a pair to be noise; published: 0.2, 0.4, 0.6, 0.8."""

    def __post_init__(self):
        _mad.check_recall(_TASK, self, (self.vocab_size - self.noise_vocab_size) // 2, 1, 4)
        if self.length % 2:
            raise ValueError(f"{_TASK}: length must be even, got {self.length}")
        if self.noise_vocab_size < 1:
            raise ValueError(f"{_TASK}: noise_vocab_size must be positive, got {self.noise_vocab_size}")
        if not 0 <= self.noise < 1:
            raise ValueError(f"{_TASK}: noise must lie in [0, 1), got {self.noise}")


Config = MADNoisyInContextRecallConfig


def _kinds(config: MADNoisyInContextRecallConfig) -> tuple[int, int]:
    """How many keys and values there are."""
    both = config.vocab_size - config.noise_vocab_size
    return both // 2, both - both // 2


def generate(rng: np.random.Generator, n: int, config: MADNoisyInContextRecallConfig) -> Rows:
    """Draws `n` rows, one after the other.

    Args:
        rng: the numbers.
        n: number of rows.
        config: which rows.

    Returns:
        "tokens" and "targets", int32 [n, length - 1]; a target is the next token, or -1 (not scored).
    """
    noise = {"noise": config.noise_vocab_size, "fraction": config.noise}
    rows = [_mad.draw_pairs(rng, config.length, *_kinds(config), **noise) for _ in range(n)]
    return _mad.as_rows(np.array(rows, np.int64).reshape(n, config.length), *_kinds(config), config.split)


def score(predictions: Predictions, data: Rows, config: MADNoisyInContextRecallConfig) -> dict[str, float]:
    """Scores predicted values of keys seen before, per token, on rows of either split.

    Args:
        predictions: [n, T], the token predicted at each position.
        data: what `generate` returned.
        config: which rows these are.

    Returns:
        "accuracy": macro accuracy, the published metric; "micro_accuracy": share of the answers that is right.
    """
    return _mad.score_tokens(predictions, _mad.answers_of(data, *_kinds(config), config.split), config)


def scored(config: MADNoisyInContextRecallConfig) -> int:
    """Returns an upper bound of the scored positions in a row."""
    return config.length // 2 - 1 if config.split == "test" else config.length - 1


def describe(config: MADNoisyInContextRecallConfig) -> dict[str, int | float]:
    """Returns the axes that a report shows."""
    return {"vocab_size": config.vocab_size, "length": config.length, "noise": config.noise}


def chance(config: MADNoisyInContextRecallConfig) -> float:
    """Returns the accuracy of guessing any of the values."""
    return 1.0 / _kinds(config)[1]
