"""MAD memorization: keys whose values never stand in the row, and have to be learnt in the weights.

Source: Poli et al., "Mechanistic Design and Scaling of Hybrid Architectures" (2024), https://arxiv.org/abs/2403.17844,
and the generator published with it; with `np.random.default_rng(12345)` the rows equal the published ones bit for bit.

One row of length 8; I, the insert token, is the id vocab - 1, and the value of a key is asked AT the I that follows the
key (`.` is not scored):

    position   0   1   2   3   4   5   6   7
    tokens    k7   I  k2   I  k7   I  k0   I
    targets    .  v3   .  v9   .  v3   .  v5

Keys are the ids [0, (vocab - 1) // 2), values the following ones up to vocab - 2. Which value a key has depends on
`map_seed` and `vocab_size` alone, and is the same in every row, in training and at test; different keys have different
values. At an even vocabulary there is one value more than keys, which no key has.
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import Int32

from memjax.tasks import _mad
from memjax.tasks._base import Predictions, Rows, TaskConfig

_TASK = "mad_memorization"


@dataclasses.dataclass(frozen=True)
class MADMemorizationConfig(TaskConfig):
    """Which rows to draw. Raises ValueError where no such row exists."""

    vocab_size: int = 256
    """Number of distinct token ids, the insert token included; published: 256, 512, ..., 8192."""
    length: int = 32
    """Length of a row, in tokens, even."""
    map_seed: int = 12345
    """Seed of the keys' values; the rng that draws rows has no part in them."""

    def __post_init__(self):
        if self.vocab_size < 3:
            raise ValueError(f"{_TASK}: vocab_size must be at least 3, got {self.vocab_size}")
        if self.length < 2 or self.length % 2:
            raise ValueError(f"{_TASK}: length must be even and positive, got {self.length}")
        if self.map_seed < 0:
            raise ValueError(f"{_TASK}: map_seed must not be negative, got {self.map_seed}")


Config = MADMemorizationConfig


@functools.lru_cache(maxsize=8)
def facts(config: MADMemorizationConfig) -> tuple[Int32[np.ndarray, "K"], Int32[np.ndarray, "K"]]:
    """Returns the keys in the order in which rows number them, and their values. Read-only."""
    rng = np.random.default_rng(config.map_seed)
    half = (config.vocab_size - 1) // 2
    keys, values = np.arange(half, dtype=np.int32), np.arange(half, config.vocab_size - 1, dtype=np.int32)
    rng.shuffle(keys)
    rng.shuffle(values)
    values = values[:half]
    keys.flags.writeable = values.flags.writeable = False
    return keys, values


def generate(rng: np.random.Generator, n: int, config: MADMemorizationConfig) -> Rows:
    """Draws `n` rows, one after the other.

    Args:
        rng: the numbers.
        n: number of rows.
        config: which rows.

    Returns:
        "tokens" and "targets", int32 [n, length]; a target is the value of the key before, or -1 (not scored).
    """
    keys, values = facts(config)
    pairs = config.length // 2
    drawn = np.zeros((n, pairs), np.int64)
    for row in drawn:
        rng.integers(pairs)  # a draw of the published generator that has no effect here: it keeps a pair from noise
        row[:] = rng.integers(len(keys), size=pairs)
    tokens = np.full((n, config.length), config.vocab_size - 1, np.int32)
    targets = np.full_like(tokens, -1)
    tokens[:, ::2] = keys[drawn]
    targets[:, 1::2] = values[drawn]
    return {"tokens": tokens, "targets": targets}


def score(predictions: Predictions, data: Rows, config: MADMemorizationConfig) -> dict[str, float]:
    """Scores predicted values.

    Args:
        predictions: [n, T], the token predicted at each position.
        data: what `generate` returned.
        config: which rows these are.

    Returns:
        "accuracy": macro accuracy, the published metric; "micro_accuracy": share of the values that is right.
    """
    return _mad.score_tokens(predictions, data["targets"], config)


def scored(config: MADMemorizationConfig) -> int:
    """Returns the number of scored positions in a row."""
    return config.length // 2


def describe(config: MADMemorizationConfig) -> dict[str, int]:
    """Returns the axes that a report shows."""
    return {"vocab_size": config.vocab_size, "length": config.length}


def chance(config: MADMemorizationConfig) -> float:
    """Returns the accuracy of guessing any of the values that a key has."""
    return 1.0 / ((config.vocab_size - 1) // 2)
