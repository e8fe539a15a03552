"""Compositional MQAR: the key is a pair of tokens, and neither of the two alone says the value.

Source: the variant `compositional_mqar` of the repository of "Zoology" (Arora et al. 2023,
https://arxiv.org/abs/2312.04927, https://github.com/HazyResearch/zoology). See `mqar` for keys of one token. With a
legacy `np.random.RandomState(seed)` and `random_non_queries=False` the rows equal the published ones bit for bit.

One row of length 26 with 4 pairs, a grid of 2 x 2: first tokens a, b, second tokens x, y. The answer stands AT the
second token of the asked key (`.` is filler or not scored):

    position   0  1  2  3  4  5  6  7  8  9 10 11   12 13 14 15 16 17 18 19 20 21 22 23 24 25
    tokens     b  x v0  a  x v1  b  y v2  a  y v3    a  x  .  b  y  .  a  y  .  b  x  .  .  .
    targets    .  .  .  .  .  .  .  .  .  .  .  .    . v1  .  . v2  .  . v3  .  . v0  .  .  .
               `------------ context -----------'    slot 0   slot 1   slot 2   slot 3

All sqrt(pairs) ** 2 combinations stand in the context, in random order, so that every first and every second token has
sqrt(pairs) values: a memory that keys on the last token alone, as MQAR permits, does no better than 1 / sqrt(pairs). A
layer has to bind the two first (a short convolution does).

First tokens come from [1, vocab // 3), second tokens from [vocab // 3, 2 * (vocab // 3)), values from there on, each
distinct inside a row; 0 is filler. A slot is three positions wide, and slots are drawn as in MQAR: slot i = 1, 2, ...
with weight i ** (power - 1), the j-th pair takes the j-th draw. With `random_non_queries` every token that is still 0
becomes an integer from [0, vocab), as published; it may equal part of a key.
Where we differ: `length` need not be even, nor below the vocabulary.
"""

import dataclasses
import math

import numpy as np

from memjax.tasks._base import Predictions, Rows, TaskConfig
from memjax.tasks._per_row import score_rows


@dataclasses.dataclass(frozen=True)
class CompositionalMQARConfig(TaskConfig):
    """Which rows to draw. Raises ValueError where no such row exists."""

    vocab_size: int = 8192
    """Number of distinct token ids: filler 0, then a third each for first tokens, second tokens and values."""
    length: int = 64
    """Length of a row, in tokens, at least 6 * pairs."""
    pairs: int = 4
    """Key-value pairs in a row, a perfect square; each is asked once."""
    power: float = 0.01
    """Exponent of the power law over the query slots (> 0, at most 10): small asks early, 1 asks uniformly."""
    random_non_queries: bool = True
    """Fill the free positions with random tokens; False leaves them 0."""

    def __post_init__(self):
        for name in ("vocab_size", "length", "pairs", "power"):
            if not getattr(self, name) > 0:
                raise ValueError(f"mqar_compositional: {name} must be positive, got {getattr(self, name)}")
        if self.power > 10:
            raise ValueError(f"mqar_compositional: power must be at most 10, got {self.power}")
        if (side := math.isqrt(self.pairs)) ** 2 != self.pairs:
            raise ValueError(f"mqar_compositional: pairs must be a perfect square, got {self.pairs}")
        if 6 * self.pairs > self.length:
            raise ValueError(
                f"mqar_compositional: {self.pairs} pairs and their queries take {6 * self.pairs} tokens, "
                f"but length is {self.length}"
            )
        third = self.vocab_size // 3
        if third - 1 < side or self.vocab_size - 2 * third < self.pairs:
            raise ValueError(
                f"mqar_compositional: vocab_size {self.vocab_size} has {max(third - 1, 0)} first tokens and "
                f"{self.vocab_size - 2 * third} values, too few for {side} and {self.pairs}"
            )


Config = CompositionalMQARConfig


def generate(rng: np.random.Generator | np.random.RandomState, n: int, config: CompositionalMQARConfig) -> Rows:
    """Draws `n` rows: first tokens of all rows, second tokens, orders of the grid, values, slots, filler; as published.

    Args:
        rng: a numpy Generator, or a legacy RandomState for the published rows.
        n: number of rows.
        config: which rows.

    Returns:
        "tokens" and "targets", int32 [n, length]; a target is the value asked for, or -1 (not scored).
    """
    third, pairs, side = config.vocab_size // 3, config.pairs, math.isqrt(config.pairs)
    context = 3 * pairs
    slots = (config.length - context) // 3
    weights = config.power * np.arange(1, slots + 1) ** (config.power - 1)
    weights = weights / weights.sum()

    def draw(population: int, count: int, p: np.ndarray | None = None) -> np.ndarray:
        rows = [rng.choice(population, size=count, replace=False, p=p) for _ in range(n)]
        return np.array(rows, np.int32).reshape(n, count)

    first, second = 1 + draw(third - 1, side), third + draw(third, side)
    cell = draw(pairs, pairs)  # cell i of the grid: first token i // side, second token i % side
    first, second = np.take_along_axis(first, cell // side, axis=1), np.take_along_axis(second, cell % side, axis=1)
    values = 2 * third + draw(config.vocab_size - 2 * third, pairs)
    positions = context + 3 * draw(slots, pairs, p=weights)

    tokens = np.zeros((n, config.length), np.int32)
    targets = np.full((n, config.length), -1, np.int32)
    tokens[:, :context] = np.stack([first, second, values], axis=2).reshape(n, context)
    np.put_along_axis(tokens, positions, first, axis=1)
    np.put_along_axis(tokens, positions + 1, second, axis=1)
    np.put_along_axis(targets, positions + 1, values, axis=1)
    if config.random_non_queries:
        free = tokens == 0
        integers = rng.randint if isinstance(rng, np.random.RandomState) else rng.integers
        tokens[free] = integers(config.vocab_size, size=int(free.sum()))
    return {"tokens": tokens, "targets": targets}


def score(predictions: Predictions, data: Rows, config: CompositionalMQARConfig) -> dict[str, float]:
    """Scores predicted values.

    Args:
        predictions: [n, T], the token predicted at each position.
        data: what `generate` returned.
        config: unused here; every task takes it.

    Returns:
        "accuracy": mean over the scored positions of a row, then over rows (the published metric);
        "row_accuracy": share of rows with every answer right.
    """
    return score_rows(predictions, data)


def scored(config: CompositionalMQARConfig) -> int:
    """Returns the number of scored positions in a row."""
    return config.pairs


def describe(config: CompositionalMQARConfig) -> dict[str, int]:
    """Returns the axes that a report shows."""
    return {"pairs": config.pairs, "length": config.length}


def chance(config: CompositionalMQARConfig) -> float:
    """Returns the accuracy of guessing any of the values; whoever guesses among those of the row reaches 1 / pairs."""
    return 1.0 / (config.vocab_size - 2 * (config.vocab_size // 3))
