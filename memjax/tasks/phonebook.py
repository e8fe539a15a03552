"""Phonebook: many names with their numbers, then one name.

Source: Jelassi et al., "Repeat After Me: Transformers are Better than State Space Models at Copying" (2024),
https://arxiv.org/abs/2402.01032, and the generator published with it.

A row, drawn with numbers of two digits (they have ten), three entries and one example, `/` being a new line (`.` is not
scored). A target is the next token; the first digit is asked AT the colon, the last one is a target only:

    position   0   1   2   3   4   5   6   7   8   9  10  11  12  13  14  15  16  17  (three entries)
    tokens   Ann Coe   :   7   0   / Bob Day   :   9   4   / Ann Day   :   6   6   /
    position  18  19  20  21  22  23  24  25  26  27  28  29                          (blank line, example, question)
    tokens     / Ann Day   :   6   6   /   / Bob Day   :   9
    targets    .   .   .   .   .   .   .   .   .   .   9   4

An entry is a first name, a last name, a colon, ten digits (the first from 6 to 9) and a new line: 14 tokens. The number
of entries is uniform in [min_entries, max_entries]. After a blank line `shots` of them are repeated as examples; after
another one stands the name of a further entry with a colon. Shorter rows are padded from the right.

Digits are the ids 0 to 9, then come colon, new line and padding; of the other ids the lower half are first names, the
upper half last names.

Where we differ: names are tokens, two each, and not text of the `names` package; a full name stands once in a book,
so that the answer is determined (published books may hold a name twice, with two numbers).
"""

import dataclasses

import numpy as np
from jaxtyping import Int32

from memjax.tasks._base import Predictions, Rows, TaskConfig
from memjax.tasks._per_row import score_answers

COLON, NEWLINE, PADDING, NAMES = 10, 11, 12, 13
"""Ids; digits lie below, names begin at NAMES."""
DIGITS = 10
"""Digits of a number."""
ENTRY = 2 + 1 + DIGITS + 1
"""Tokens of an entry."""


@dataclasses.dataclass(frozen=True)
class PhonebookConfig(TaskConfig):
    """Which rows to draw. Raises ValueError where no such row exists."""

    vocab_size: int = 256
    """Number of distinct token ids; all but 13 are names."""
    min_entries: int = 20
    """Entries of the shortest book."""
    max_entries: int = 20
    """Entries of the longest book; a row has 14 * (max_entries + shots) + 14 tokens."""
    shots: int = 2
    """Entries repeated as examples before the question."""

    def __post_init__(self):
        if self.shots < 0:
            raise ValueError(f"phonebook: shots must not be negative, got {self.shots}")
        if self.min_entries <= self.shots:
            raise ValueError(f"phonebook: min_entries must be above {self.shots} shots, got {self.min_entries}")
        if self.max_entries < self.min_entries:
            raise ValueError(f"phonebook: max_entries {self.max_entries} lies below min_entries {self.min_entries}")
        firsts, lasts = _names(self)
        if firsts * lasts < self.max_entries or firsts < 1:
            raise ValueError(
                f"phonebook: vocab_size {self.vocab_size} has {max(firsts, 0) * max(lasts, 0)} full names, "
                f"too few for {self.max_entries} entries"
            )


Config = PhonebookConfig


def _names(config: PhonebookConfig) -> tuple[int, int]:
    """How many first and last names there are."""
    both = config.vocab_size - NAMES
    return both // 2, both - both // 2


def generate(rng: np.random.Generator, n: int, config: PhonebookConfig) -> Rows:
    """Draws `n` rows, one after the other.

    Args:
        rng: the numbers.
        n: number of rows.
        config: which rows.

    Returns:
        "tokens" and "targets", int32 [n, 14 * (max_entries + shots) + 14]; a target is a digit, or -1 (not scored).
    """
    length = ENTRY * (config.max_entries + config.shots) + 2 + ENTRY - 2  # question: no last digit, no new line
    tokens = np.full((n, length), PADDING, np.int32)
    targets = np.full((n, length), -1, np.int32)
    for row, target in zip(tokens, targets, strict=True):
        book = _draw_book(rng, int(rng.integers(config.min_entries, config.max_entries + 1)), config)
        *shown, asked = rng.choice(len(book), config.shots + 1, replace=False)
        examples = book[shown].reshape(-1) if shown else np.zeros(0, np.int32)
        text = np.concatenate([book.reshape(-1), [NEWLINE], examples, [NEWLINE], book[asked, :-1]])
        row[: len(text) - 1] = text[:-1]
        target[len(text) - 1 - DIGITS : len(text) - 1] = text[-DIGITS:]
    return {"tokens": tokens, "targets": targets}


def _draw_book(rng: np.random.Generator, entries: int, config: PhonebookConfig) -> Int32[np.ndarray, "E 14"]:
    """The entries of a book, of different full names."""
    firsts, lasts = _names(config)
    first, last = np.divmod(rng.choice(firsts * lasts, entries, replace=False), lasts)
    numbers = rng.integers(10, size=(entries, DIGITS))
    numbers[:, 0] = rng.integers(6, 10, size=entries)
    book = np.full((entries, ENTRY), COLON, np.int32)
    book[:, 0], book[:, 1] = NAMES + first, NAMES + firsts + last
    book[:, 3:-1], book[:, -1] = numbers, NEWLINE
    return book


def score(predictions: Predictions, data: Rows, config: PhonebookConfig) -> dict[str, float]:
    """Scores predicted numbers per number; its beginning is given to the model.

    A number is right as a whole exactly where greedy decoding would write it.

    Args:
        predictions: [n, T], the token predicted at each position.
        data: what `generate` returned.
        config: unused here; every task takes it.

    Returns:
        "accuracy": share of numbers right as a whole (the published metric, exact match); "digit_accuracy": share of
        their digits that is right.
    """
    return score_answers(predictions, data, "digit_accuracy")


def scored(config: PhonebookConfig) -> int:
    """Returns the number of scored positions in a row."""
    return DIGITS


def describe(config: PhonebookConfig) -> dict[str, int]:
    """Returns the axes that a report shows."""
    return {"min_entries": config.min_entries, "max_entries": config.max_entries, "shots": config.shots}


def chance(config: PhonebookConfig) -> float:
    """Returns the accuracy of guessing any number of the book that is no example: it takes the book, not the name."""
    sizes = np.arange(config.min_entries, config.max_entries + 1)
    return float(np.mean(1 / (sizes - config.shots)))
