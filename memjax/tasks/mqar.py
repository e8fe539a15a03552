"""Multi-query associative recall (MQAR): keys and values once, then every key again, at a distance.

Source: Arora et al., "Zoology: Measuring and Improving Recall in Efficient Language Models" (2023),
https://arxiv.org/abs/2312.04927, and the generator published with it. With a legacy
`np.random.RandomState(seed)`, `random_non_queries=False` and no updates the rows equal the published ones bit for bit.

One row of length 16 with 3 pairs; the answer to a key stands AT the position of the asked key (`.` is filler or not
scored):

    position   0   1   2   3   4   5     6   7   8   9  10  11  12  13  14  15
    tokens    k0  v0  k1  v1  k2  v2    k1   .  k0   .   .   .   .   .  k2   .
    targets    .   .   .   .   .   .    v1   .  v0   .   .   .   .   .  v2   .
              `---- context ------'    slot 0  slot 1  slot 2  slot 3  slot 4

Keys come from [1, vocab // 2), values from [vocab // 2, vocab), both distinct inside a row; 0 is filler. A slot is two
positions wide; slot i = 1, 2, ... is drawn with weight i ** (power - 1), without replacement, and key j takes the j-th
draw. A small `power` asks soon after the context, `power = 1` asks anywhere. With `random_non_queries` every token
that is still 0 is replaced by an integer from [0, vocab), which may equal a key: hard at a small vocabulary.

With `updates` (after the forgetting variant of the same repository) as many pairs follow the context that give keys of
the row, drawn anew each time, a value that the row has not seen; a key is then worth its latest value (there a key is
updated at most once, and a new value may be one that the row has seen):

    tokens    k0  v0  k1  v1  k2  v2  k1  w1  k1  w1'    k2   .  k1   .  ...      updates = 2
    targets    .   .   .   .   .   .   .   .   .   .     v2   . w1'   .  ...
"""

import dataclasses

import numpy as np

from memjax.tasks._base import Predictions, Rows, TaskConfig, changed
from memjax.tasks._per_row import score_rows


@dataclasses.dataclass(frozen=True)
class MQARConfig(TaskConfig):
    """Which MQAR rows to draw. Raises ValueError where no such row exists."""

    vocab_size: int = 8192
    """Number of distinct token ids: filler 0, keys below half, values from half on."""
    length: int = 64
    """Length of a row, in tokens; even, at least 4 * pairs."""
    pairs: int = 4
    """Key-value pairs in a row; each is asked once."""
    power: float = 0.01
    """Exponent of the power law over the query slots (> 0, at most 10): small asks early, 1 asks uniformly."""
    random_non_queries: bool = True
    """Fill the free positions with random tokens; False leaves them 0."""
    updates: int = 0
    """Reassignments of keys after the pairs."""

    def __post_init__(self):
        for name in ("vocab_size", "length", "pairs", "power"):
            if not getattr(self, name) > 0:
                raise ValueError(f"mqar: {name} must be positive, got {getattr(self, name)}")
        if self.power > 10:
            raise ValueError(f"mqar: power must be at most 10, got {self.power}")
        if self.length % 2:
            raise ValueError(f"mqar: length must be even, got {self.length}")
        if self.updates < 0:
            raise ValueError(f"mqar: updates must not be negative, got {self.updates}")
        if 4 * self.pairs + 2 * self.updates > self.length:
            more = f" and {self.updates} updates" if self.updates else ""
            raise ValueError(
                f"mqar: {self.pairs} pairs{more} take {2 * (self.pairs + self.updates)} tokens and their queries "
                f"{2 * self.pairs} more, but length is {self.length}"
            )
        values = self.vocab_size - self.vocab_size // 2
        if values < self.pairs + self.updates:
            raise ValueError(
                f"mqar: vocab_size {self.vocab_size} has {values} values, too few for {self.pairs + self.updates}"
            )
        if self.vocab_size // 2 - 1 < self.pairs:
            raise ValueError(
                f"mqar: vocab_size {self.vocab_size} has {max(self.vocab_size // 2 - 1, 0)} keys, "
                f"too few for {self.pairs} pairs"
            )


Config = MQARConfig


def generate(rng: np.random.Generator | np.random.RandomState, n: int, config: MQARConfig) -> Rows:
    """Draws `n` rows.

    The draws run as published: the keys of all rows, then all values, then all slots, then the filler. The same
    seed gives the same rows on every machine.

    Args:
        rng: a numpy Generator, or a legacy RandomState for the published rows.
        n: number of rows.
        config: which rows.

    Returns:
        "tokens" and "targets", int32 [n, length]; a target is the value asked for, or -1 (not scored).
    """
    half, pairs, updates = config.vocab_size // 2, config.pairs, config.updates
    context = 2 * (pairs + updates)
    slots = (config.length - context) // 2
    weights = config.power * np.arange(1, slots + 1) ** (config.power - 1)
    weights = weights / weights.sum()

    def draw(population: int, count: int = pairs, p: np.ndarray | None = None) -> np.ndarray:
        rows = [rng.choice(population, size=count, replace=False, p=p) for _ in range(n)]
        return np.array(rows, np.int32).reshape(n, count)

    keys = 1 + draw(half - 1)
    values = half + draw(config.vocab_size - half, pairs + updates)
    positions = context + 2 * draw(slots, p=weights)
    order = _integers(rng, pairs, (n, updates))  # which pair an update gives another value

    tokens = np.zeros((n, config.length), np.int32)
    targets = np.full((n, config.length), -1, np.int32)
    tokens[:, 0:context:2] = np.concatenate([keys, np.take_along_axis(keys, order, axis=1)], axis=1)
    tokens[:, 1:context:2] = values
    latest = values[:, :pairs].copy()
    for i in range(updates):
        np.put_along_axis(latest, order[:, i : i + 1], values[:, pairs + i : pairs + i + 1], axis=1)
    np.put_along_axis(tokens, positions, keys, axis=1)
    np.put_along_axis(targets, positions, latest, axis=1)
    if config.random_non_queries:
        free = tokens == 0
        tokens[free] = _integers(rng, config.vocab_size, int(free.sum()))
    return {"tokens": tokens, "targets": targets}


def _integers(rng: np.random.Generator | np.random.RandomState, limit: int, size) -> np.ndarray:
    return (rng.randint if isinstance(rng, np.random.RandomState) else rng.integers)(limit, size=size)


def score(predictions: Predictions, data: Rows, config: MQARConfig) -> dict[str, float]:
    """Scores predicted tokens.

    Args:
        predictions: [n, T], the token predicted at each position.
        data: what `generate` returned.
        config: unused here; every task takes it.

    Returns:
        "accuracy": mean over the scored positions of a row, then over rows (the published metric);
        "row_accuracy": share of rows with every answer right.
    """
    return score_rows(predictions, data)


def scored(config: MQARConfig) -> int:
    """Returns the number of scored positions in a row."""
    return config.pairs


def describe(config: MQARConfig) -> dict[str, int]:
    """Returns the axes that a report shows."""
    return {"pairs": config.pairs, "length": config.length, **changed(config, "updates")}


def chance(config: MQARConfig) -> float:
    """Returns the accuracy of guessing any of the values; whoever guesses among those of the row reaches 1 / pairs."""
    return 1.0 / (config.vocab_size - config.vocab_size // 2)
