"""MAD fuzzy in-context recall: keys and values of several tokens, so that their borders have to be found.

Source: Poli et al., "Mechanistic Design and Scaling of Hybrid Architectures" (2024), https://arxiv.org/abs/2403.17844,
and the generator published with it (multi-query).

One row of length 18, its pairs (k3 k0 k2 -> v1 v4), (k1 k0 k5 -> v2) and the first one again (p is padding, `.` not
scored). A target is the next token; a value's first token is asked AT the last token of its key, and the last one is a
target only:

    position   0   1   2   3   4   5   6   7   8   9  10  11  12  13  14  15  16  17
    tokens     p   p   p   p   p  k3  k0  k2  v1  v4  k1  k0  k5  v2  k3  k0  k2  v1
    targets    .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .  v1  v4      split="test"

Keys are made of the ids [0, (vocab - 1) // 2), values of the following ones, the last id pads a row from the left.
A motif has no token twice: at test keys have `motif` tokens and values 1 to `motif`; with split="train" keys have 1 to
`motif` as well, and every next token is a target, padding and keys included. A key of the row is worth one value; the
pair asked at the end stands somewhere before it, and other keys come back by chance only: about 4.3 tokens of a row are
scored.

Where we differ: a motif is drawn directly (the published code shuffles a list of all motifs for each row: 238,266 at
128 ids), so the rows are distributed as the published ones and are not the same; and the pair asked at the end always
stands in the row (in published rows it can be missing, where its place falls behind the last pair).
"""

import dataclasses

import numpy as np

from memjax.tasks import _mad
from memjax.tasks._base import Predictions, Rows

_TASK = "mad_fuzzy_in_context_recall"


@dataclasses.dataclass(frozen=True)
class MADFuzzyInContextRecallConfig(_mad.MADRecallConfig):
    """Which rows to draw. Raises ValueError where no such row exists."""

    motif: int = 3
    """Most tokens of a key, and of a value."""

    def __post_init__(self):
        if self.motif < 1:
            raise ValueError(f"{_TASK}: motif must be positive, got {self.motif}")
        _mad.check_recall(_TASK, self, (self.vocab_size - 1) // 2, self.motif, 4 * self.motif + 1)


Config = MADFuzzyInContextRecallConfig


def _kinds(config: MADFuzzyInContextRecallConfig) -> tuple[int, int]:
    """How many ids keys and values are made of."""
    keys = (config.vocab_size - 1) // 2
    return keys, config.vocab_size - 1 - keys


def generate(rng: np.random.Generator, n: int, config: MADFuzzyInContextRecallConfig) -> Rows:
    """Draws `n` rows, one after the other.

    Args:
        rng: the numbers.
        n: number of rows.
        config: which rows.

    Returns:
        "tokens" and "targets", int32 [n, length]; a target is the next token, or -1 (not scored).
    """
    rows = np.full((n, config.length + 1), config.vocab_size - 1)  # one token more: the last one is a target only
    for row in rows:
        drawn = _draw_row(rng, config)
        row[-len(drawn) :] = drawn
    return _mad.as_rows(rows, *_kinds(config), config.split)


def _draw_row(rng: np.random.Generator, config: MADFuzzyInContextRecallConfig) -> list[int]:
    """One row without its padding."""
    key, value = _draw_key(rng, config), _draw_value(rng, config)
    asked = key + value
    end = config.length - len(asked) - 2 * config.motif  # where the last pair may start, at most
    place = int(rng.integers(config.length - 2 * len(asked)))
    worth: dict[tuple[int, ...], list[int]] = {}
    row: list[int] = []
    last = 0
    while len(row) < end:
        last = len(row)
        new = key if last >= place and tuple(key) not in worth else _draw_key(rng, config)
        if tuple(new) not in worth:
            worth[tuple(new)] = value if new == key else _draw_value(rng, config)
        row += new + worth[tuple(new)]
    if tuple(key) not in worth:
        row[last:] = asked  # its place fell behind the last pair: it stands in for that one
    return row + asked


def _draw_key(rng: np.random.Generator, config: MADFuzzyInContextRecallConfig) -> list[int]:
    size = config.motif if config.split == "test" else 1 + int(rng.integers(config.motif))
    return rng.choice(_kinds(config)[0], size, replace=False).tolist()


def _draw_value(rng: np.random.Generator, config: MADFuzzyInContextRecallConfig) -> list[int]:
    keys, values = _kinds(config)
    return (keys + rng.choice(values, 1 + int(rng.integers(config.motif)), replace=False)).tolist()


def score(predictions: Predictions, data: Rows, config: MADFuzzyInContextRecallConfig) -> dict[str, float]:
    """Scores predicted tokens of values of keys seen before, on rows of either split.

    The beginning of a value is given to the model.

    Args:
        predictions: [n, T], the token predicted at each position.
        data: what `generate` returned.
        config: which rows these are.

    Returns:
        "accuracy": macro accuracy, the published metric; "micro_accuracy": share of the answers' tokens that is right.
    """
    return _mad.score_tokens(predictions, _mad.answers_of(data, *_kinds(config), config.split), config)


def scored(config: MADFuzzyInContextRecallConfig) -> int:
    """Returns an upper bound of the scored positions in a row: no value is longer than a key of the test split."""
    return config.length // 2 if config.split == "test" else config.length


def describe(config: MADFuzzyInContextRecallConfig) -> dict[str, int]:
    """Returns the axes that a report shows."""
    return {"vocab_size": config.vocab_size, "length": config.length, "motif": config.motif}


def chance(config: MADFuzzyInContextRecallConfig) -> float:
    """Returns the accuracy of guessing any token that values are made of."""
    return 1.0 / _kinds(config)[1]
