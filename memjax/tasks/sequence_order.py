"""Sequence order recall: two segments of what was read are shown again; which of them came first?

Source: SORT of Pink et al., "Assessing Episodic Memory in LLMs with Sequence Order Recall Tasks" (2024,
https://arxiv.org/abs/2410.08133), with random tokens in place of excerpts of books.

One row of length 15, with one question and segments of 2 tokens; `?` is token 0, and the answer stands AT the last
token of the question: 1 if the segment shown first came first, else 2:

    position    0   1   2   3   4   5   6   7   8   9  10  11  12  13  14
    tokens      f   k   c   m   a   h   e   b   n   g   ?   b   n   k   c
    targets     .   .   .   .   .   .   .   .   .   .   .   .   .   .   2
               `-------------- excerpt -------------'   `- question --'

It needs where things were, not only that they were there: a memory that stores what it sees as a set answers at
chance. The tokens of an excerpt are all different, so that a segment stands in it once. The two segments do not
overlap, and every such pair of places is as likely; which is shown first is the toss of a coin.

Where we differ: the accuracy is one number (there it is also given by the distance of the segments), and nothing asks
for what the weights remember of a book. With `queries` more than one question follows the excerpt, each drawn by
itself, which gives training more answers; published is one.
"""

import dataclasses

import numpy as np

from memjax.tasks._base import Predictions, Rows, TaskConfig
from memjax.tasks._per_row import score_rows

ASK, FIRST, SECOND, ITEMS = range(4)
"""Tokens: what begins a question, the two answers, the first of the tokens of excerpts."""


@dataclasses.dataclass(frozen=True)
class SequenceOrderConfig(TaskConfig):
    """Which excerpts and questions to draw. Raises ValueError where there are none."""

    vocab_size: int = 256
    """Number of distinct token ids, at least 3 more than an excerpt has tokens."""
    length: int = 64
    """Length of a row, in tokens: the excerpt and the questions, of 1 + 2 * segment tokens each."""
    segment: int = 2
    """Length of a segment, in tokens."""
    queries: int = 4
    """Questions in a row."""

    def __post_init__(self):
        for name in ("length", "segment", "queries"):
            if getattr(self, name) < 1:
                raise ValueError(f"sequence_order: {name} must be positive, got {getattr(self, name)}")
        if (excerpt := excerpt_length(self)) < 2 * self.segment:
            raise ValueError(
                f"sequence_order: length {self.length} leaves an excerpt of {max(excerpt, 0)} tokens, "
                f"too short for two segments of {self.segment}"
            )
        if self.vocab_size < (needed := ITEMS + excerpt):
            raise ValueError(f"sequence_order: needs a vocab_size of at least {needed}, got {self.vocab_size}")


Config = SequenceOrderConfig


def excerpt_length(config: SequenceOrderConfig) -> int:
    """Returns the number of tokens before the first question."""
    return config.length - config.queries * (1 + 2 * config.segment)


def generate(rng: np.random.Generator, n: int, config: SequenceOrderConfig) -> Rows:
    """Draws `n` rows: all excerpts, then the places of the segments, then the coins.

    Args:
        rng: the source of all draws.
        n: number of rows.
        config: which rows.

    Returns:
        "tokens" and "targets", int32 [n, length]; a target is `FIRST`, `SECOND`, or -1 (not scored).
    """
    size, queries, excerpt = config.segment, config.queries, excerpt_length(config)
    rows = [rng.choice(config.vocab_size - ITEMS, size=excerpt, replace=False) for _ in range(n)]
    items = ITEMS + np.array(rows, np.int32).reshape(n, excerpt)

    # two different numbers below `places`, apart by size - 1 more, are two segments that do not overlap
    places = excerpt - 2 * size + 2
    one = rng.integers(places, size=(n, queries))
    other = rng.integers(places - 1, size=(n, queries))
    other += other >= one
    starts = np.stack([np.minimum(one, other), np.maximum(one, other) + size - 1], axis=2)
    second = rng.integers(2, size=(n, queries, 1))
    shown = np.where(second == 1, starts[..., ::-1], starts)

    where = shown[..., None] + np.arange(size)
    where = where.reshape(n, queries * 2 * size)
    segments = np.take_along_axis(items, where, axis=1).reshape(n, queries, 2 * size)
    questions = np.concatenate([np.full((n, queries, 1), ASK), segments], axis=2)
    tokens = np.concatenate([items, questions.reshape(n, queries * (1 + 2 * size))], axis=1).astype(np.int32)
    targets = np.full((n, config.length), -1, np.int32)
    targets[:, excerpt + 2 * size :: 1 + 2 * size] = FIRST + second[..., 0]
    return {"tokens": tokens, "targets": targets}


def score(predictions: Predictions, data: Rows, config: SequenceOrderConfig) -> dict[str, float]:
    """Scores predicted answers.

    Args:
        predictions: [n, T], the token predicted at each position.
        data: what `generate` returned.
        config: unused here; every task takes it.

    Returns:
        "accuracy": mean over the questions of a row, then over rows; "row_accuracy": share of rows with every answer
        right.
    """
    return score_rows(predictions, data)


def scored(config: SequenceOrderConfig) -> int:
    """Returns the number of scored positions in a row."""
    return config.queries


def describe(config: SequenceOrderConfig) -> dict[str, int]:
    """Returns the axes that a report shows."""
    return {"length": config.length, "segment": config.segment, "queries": config.queries}


def chance(config: SequenceOrderConfig) -> float:
    """Returns the accuracy of tossing a coin."""
    return 0.5
