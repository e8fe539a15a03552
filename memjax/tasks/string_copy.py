"""String copy and n-gram look-up: repeat a string of letters, or what follows three of its letters.

Source: Jelassi et al., "Repeat After Me: Transformers are Better than State Space Models at Copying" (2024),
https://arxiv.org/abs/2402.01032, and the generator published with it.

Rows with the string "dabcb" and, for the look-ups, the 2-gram "ab" (`*` is padding, `.` in the second line of a drawing
not scored; # is the token that ends an answer, written "." in the paper). A target is the next token:

    position   0   1   2   3   4   5   6   7   8   9  10  11  12  13
    tokens     $   d   a   b   c   b   |   d   a   b   c   b   #   *     kind="copy"
    targets    .   .   .   .   .   .   d   a   b   c   b   #   .   .

    tokens     $   a   b   |   d   a   b   c   b   |   c   b   #         kind="prefix_ngram"
    targets    .   .   .   .   .   .   .   .   .   c   b   #   .

    tokens     $   d   a   b   c   b   |   a   b   c   b   #             kind="suffix_ngram"
    targets    .   .   .   .   .   .   .   .   c   b   #   .

Letters are the ids [0, letters), then come $, |, # and *. The length of a string is uniform in [min_length,
max_length]; a row is padded from the right to the longest possible one. The answer ends with the string, or after
`answer` letters.

Where we differ: published training packs as many strings as fit into 220 tokens; here a row holds one, as in the
published evaluation. The n-gram looked up stands once in its string, so that the answer is determined (the published
one may stand twice, though the string has one that does not), and it may stand wherever an answer fits behind it (there
not in the last two or three of these places).
"""

import dataclasses
from typing import Literal

import numpy as np

from memjax.tasks._base import Predictions, Rows, TaskConfig, changed
from memjax.tasks._per_row import score_answers

_TRIES = 100


@dataclasses.dataclass(frozen=True)
class StringCopyConfig(TaskConfig):
    """Which rows to draw. Raises ValueError where no such row exists."""

    vocab_size: int = 30
    """Number of distinct token ids; letters + 4 are in use."""
    kind: Literal["copy", "prefix_ngram", "suffix_ngram"] = "copy"
    """Copy the string, or tell what follows an n-gram that stands before (prefix) or behind it (suffix)."""
    min_length: int = 20
    """Letters of the shortest string."""
    max_length: int = 50
    """Letters of the longest string."""
    letters: int = 26
    """Different letters."""
    ngram: int = 3
    """Letters of the n-gram; unused in kind="copy"."""
    answer: int = 0
    """Letters of the answer; 0: up to the end of the string."""

    def __post_init__(self):
        if self.kind not in ("copy", "prefix_ngram", "suffix_ngram"):
            raise ValueError(f"string_copy: kind must be copy, prefix_ngram or suffix_ngram, got {self.kind!r}")
        if self.letters < 2:
            raise ValueError(f"string_copy: letters must be at least 2, got {self.letters}")
        if self.vocab_size < self.letters + 4:
            raise ValueError(f"string_copy: vocab_size must be at least {self.letters + 4}, got {self.vocab_size}")
        if self.answer < 0 or self.ngram < 1:
            raise ValueError(f"string_copy: no answer of {self.answer} letters, or no ngram of {self.ngram}")
        if self.min_length < (least := _ngram(self) + max(self.answer, 1)):
            raise ValueError(f"string_copy: min_length must be at least {least}, got {self.min_length}")
        if self.max_length < self.min_length:
            raise ValueError(f"string_copy: max_length {self.max_length} lies below min_length {self.min_length}")


Config = StringCopyConfig


def _ngram(config: StringCopyConfig) -> int:
    return 0 if config.kind == "copy" else config.ngram


def _longest(config: StringCopyConfig) -> int:
    """Letters of the longest answer."""
    return config.answer or config.max_length - _ngram(config)


def generate(rng: np.random.Generator, n: int, config: StringCopyConfig) -> Rows:
    """Draws `n` rows, one after the other.

    Args:
        rng: the numbers.
        n: number of rows.
        config: which rows.

    Returns:
        "tokens" and "targets", int32 [n, T]; a target is the next token of the answer, or -1 (not scored).
        T is the length of the longest possible row.

    Raises ValueError where strings of so few letters hold no n-gram just once.
    """
    start, bar, end, padding = range(config.letters, config.letters + 4)
    marks = {"copy": 3, "prefix_ngram": 4, "suffix_ngram": 3}[config.kind]
    length = config.max_length + _ngram(config) + _longest(config) + marks
    tokens = np.full((n, length), padding, np.int32)
    targets = np.full((n, length), -1, np.int32)
    for row, target in zip(tokens, targets, strict=True):
        string, first = _draw_string(rng, config)
        behind = first + _ngram(config)
        gram, answer = string[first:behind], string[behind : behind + (config.answer or len(string))]
        question = [bar, *gram] if config.kind == "suffix_ngram" else [bar]
        before = [*gram, bar] if config.kind == "prefix_ngram" else []
        question = [start, *before, *string, *question]
        told = [*answer, end]
        row[: len(question) + len(told)] = question + told
        target[len(question) - 1 : len(question) + len(told) - 1] = told
    return {"tokens": tokens, "targets": targets}


def _draw_string(rng: np.random.Generator, config: StringCopyConfig) -> tuple[list[int], int]:
    """A string, and where the n-gram looked up begins (0 in kind="copy")."""
    size = _ngram(config)
    for _ in range(_TRIES):
        string = rng.integers(config.letters, size=rng.integers(config.min_length, config.max_length + 1)).tolist()
        if not size:
            return string, 0
        grams = [tuple(string[i : i + size]) for i in range(len(string) - size + 1)]
        firsts = range(len(string) - size - max(config.answer, 1) + 1)
        single = [i for i in firsts if grams.count(grams[i]) == 1]
        if single:
            return string, single[int(rng.integers(len(single)))]
    raise ValueError(f"string_copy: no ngram of {size} stands just once in strings of {config.letters} letters")


def score(predictions: Predictions, data: Rows, config: StringCopyConfig) -> dict[str, float]:
    """Scores predicted answers per string; its beginning is given to the model.

    A string is right as a whole exactly where greedy decoding would write it.

    Args:
        predictions: [n, T], the token predicted at each position.
        data: what `generate` returned.
        config: unused here; every task takes it.

    Returns:
        "accuracy": share of answers right as a whole, with their end (the published metric); "token_accuracy": share
        of their tokens that is right.
    """
    return score_answers(predictions, data)


def scored(config: StringCopyConfig) -> int:
    """Returns an upper bound of the scored positions in a row: the longest answer and its end."""
    return _longest(config) + 1


def describe(config: StringCopyConfig) -> dict[str, int | str]:
    """Returns the axes that a report shows."""
    shown = ("letters", "answer") if config.kind == "copy" else ("letters", "ngram", "answer")
    sizes = {"min_length": config.min_length, "max_length": config.max_length}
    return {"kind": config.kind, **sizes, **changed(config, *shown)}


def chance(config: StringCopyConfig) -> float:
    """Returns the accuracy of guessing every letter of an answer whose length is known.

    For a look-up every place of the n-gram counts as equally likely, as it nearly is.
    """
    power = lambda length: float(config.letters) ** -length
    lengths = range(config.min_length, config.max_length + 1)
    if config.answer:
        return power(config.answer)
    if config.kind == "copy":
        return float(np.mean([power(length) for length in lengths]))
    answers = [range(1, length - config.ngram + 1) for length in lengths]
    return float(np.mean([np.mean([power(length) for length in each]) for each in answers]))
