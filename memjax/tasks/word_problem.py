"""The word problem of a finite group: the product of all elements so far. State tracking at its hardest.

Source: Merrill, Petty and Sabharwal, "The Illusion of State in State-Space Models" (2024,
https://arxiv.org/abs/2404.08819). The word problem of A5 and of S5 is complete for NC1, so that a model whose layers
lie in TC0 needs the more layers the longer the word; A4 x Z5 (solvable, not commutative) and Z60 (commutative) have as
many elements as A5 and are easier. A recurrent layer whose transitions can be any permutation does them all.

One row of S3, of length 5. An element says where the objects 0, 1, 2 go; tokens number the elements in the order of
their images, so that 0 is the identity:

    elements    0 = 012   1 = 021   2 = 102   3 = 120   4 = 201   5 = 210

    position     0    1    2    3    4
    tokens       2    5    1    0    3
    targets      2    3    5    5    1

At position 1 comes 102 first and 210 then: object 0 goes to 1 and stays there, 1 goes to 0 and on to 2, 2 stays and
goes to 0, which is 120. Elements are drawn uniformly, so that every product is uniform too and no answer is a hint.

Traps: the published rows have lengths from 2 to 20, one model for each; with the product of every prefix as target (as
here) a long row trains all the shorter ones. Accuracy over all positions hides where tracking ends, since the first
ones are easy: see `last_accuracy` and `row_accuracy`. Some multiply the other way round, the newest element innermost;
the difficulty is the same, the tables are not.
"""

import dataclasses
import functools
import itertools
from typing import Literal

import numpy as np
from jaxtyping import Int

from memjax.tasks._base import Predictions, Rows, TaskConfig
from memjax.tasks._per_row import last_accuracy, score_rows

Permutations = Int[np.ndarray, "G P"]


def _symmetric(points: int) -> Permutations:
    return np.array(list(itertools.permutations(range(points))))


def _alternating(points: int) -> Permutations:
    every = _symmetric(points)
    pairs = list(itertools.combinations(range(points), 2))
    return every[[sum(row[i] > row[j] for i, j in pairs) % 2 == 0 for row in every.tolist()]]


def _cyclic(points: int) -> Permutations:
    return np.add.outer(np.arange(points), np.arange(points)) % points


def _product(first: Permutations, second: Int[np.ndarray, "H Q"]) -> Int[np.ndarray, "GH PQ"]:
    """Both groups side by side, each on points of its own."""
    right = np.tile(second + first.shape[1], (len(first), 1))
    return np.concatenate([np.repeat(first, len(second), axis=0), right], axis=1)


GROUPS = {
    "S3": lambda: _symmetric(3),
    "S5": lambda: _symmetric(5),
    "A5": lambda: _alternating(5),
    "A4xZ5": lambda: _product(_alternating(4), _cyclic(5)),
    "Z60": lambda: _cyclic(60),
}
"""How to list the elements of each group as permutations of its points, the identity first."""


@dataclasses.dataclass(frozen=True)
class WordProblemConfig(TaskConfig):
    """Which words to draw. Raises ValueError where there are none."""

    vocab_size: int = 120
    """Number of distinct token ids, at least the number of elements of the group."""
    length: int = 20
    """Length of a row: elements of a word."""
    group: Literal["S3", "S5", "A5", "A4xZ5", "Z60"] = "S5"
    """The group, of 6, 120, 60, 60 and 60 elements."""

    def __post_init__(self):
        if self.group not in GROUPS:
            raise ValueError(f"word_problem: group must be one of {', '.join(GROUPS)}, got {self.group!r}")
        if self.length < 1:
            raise ValueError(f"word_problem: length must be positive, got {self.length}")
        if self.vocab_size < (size := order(self)):
            raise ValueError(f"word_problem: {self.group} needs a vocab_size of at least {size}, got {self.vocab_size}")


Config = WordProblemConfig


def order(config: WordProblemConfig) -> int:
    """Returns the number of elements of the group."""
    return len(table(config.group))


@functools.lru_cache
def table(group: str) -> Int[np.ndarray, "G G"]:
    """Returns the multiplication table: entry [a, b] is the element "first a, then b". Read-only."""
    elements = GROUPS[group]()
    number = {row.tobytes(): i for i, row in enumerate(elements)}
    products = np.array([[number[then[row].tobytes()] for then in elements] for row in elements])
    products.flags.writeable = False
    return products


def generate(rng: np.random.Generator, n: int, config: WordProblemConfig) -> Rows:
    """Draws `n` rows of independent uniform elements.

    Args:
        rng: the source of all draws.
        n: number of rows.
        config: which words.

    Returns:
        "tokens" and "targets", int32 [n, length]; a target is the product of the elements up to its position.
    """
    products = table(config.group)
    tokens = rng.integers(len(products), size=(n, config.length))
    targets = tokens.copy()
    for t in range(1, config.length):
        targets[:, t] = products[targets[:, t - 1], tokens[:, t]]
    return {"tokens": tokens.astype(np.int32), "targets": targets.astype(np.int32)}


def score(predictions: Predictions, data: Rows, config: WordProblemConfig) -> dict[str, float]:
    """Scores predicted products.

    Args:
        predictions: [n, T], the token predicted at each position.
        data: what `generate` returned.
        config: unused here; every task takes it.

    Returns:
        "accuracy": mean over all positions; "row_accuracy": share of rows with every product
        right; "last_accuracy": share of rows with the product of the whole word right.
    """
    return {**score_rows(predictions, data), "last_accuracy": last_accuracy(predictions, data)}


def scored(config: WordProblemConfig) -> int:
    """Returns the number of scored positions in a row."""
    return config.length


def describe(config: WordProblemConfig) -> dict[str, int | str]:
    """Returns the axes that a report shows."""
    return {"group": config.group, "length": config.length}


def chance(config: WordProblemConfig) -> float:
    """Returns the accuracy of guessing any element; who repeats the first token is right at the first position too."""
    return 1.0 / order(config)
