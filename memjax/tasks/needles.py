"""Needles in a haystack after RULER: a sentence gives a key a value, somewhere in a long text; which value was it?

Source: Hsieh et al., "RULER: What's the Real Context Size of Your Long-Context Language Models?" (2024),
https://arxiv.org/abs/2404.06654, and the generator published with it (Apache-2.0), from which the wording of the
prompt, of the needle and of the noise is taken. Text is bytes (the byte tokenizer's ids, 256 fills the row). One row of
`single_1`, its lines drawn below each other; the answer's bytes are scored, each AT the byte before it:

    A special magic number is hidden within the following text. Make sure to memorize it. I will quiz you about the
    number afterwards.
    The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.
    One of the special magic numbers for quiet-harbor is: 4820157.                              <- depth 0.5
    The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.
    What is the special magic number for quiet-harbor mentioned in the provided text? The special magic number for
    quiet-harbor mentioned in the provided text is 4820157.

    tokens     ...  i  s  _  4  8  2  0  1  5  7  .  256  256      _ is the blank
    targets    ...  .  .  4  8  2  0  1  5  7  .  .    .    .

| variant      | haystack          | keys -> values    | needles                               |
|--------------|-------------------|-------------------|---------------------------------------|
| single_1     | repeated noise    | word -> number    | 1                                     |
| single_2     | text              | word -> number    | 1                                     |
| single_3     | text              | word -> uuid      | 1                                     |
| multikey_1   | text              | word -> number    | 4 keys, one asked                     |
| multikey_2   | needles, no text  | word -> number    | one asked                             |
| multikey_3   | needles, no text  | uuid -> uuid      | one asked                             |
| multivalue   | text              | word -> number    | 1 key of 4 values, all asked          |
| multiquery   | text              | word -> number    | 4 keys, all asked, in random order    |

Numbers have seven digits, the first not 0; a word is adjective-noun. The answer's prefix belongs to the prompt: without
it a base model does not know what it is asked for. `length` counts everything, prompt and answer.

Where we differ and why: lengths are bytes, not tokens of a model, so our 1024 is a short context. Words come from a
list of our own of 64 x 64. The text of `text` starts at a random sentence, so that rows are worth training on (there
always at the beginning of its essays, which are under copyright: without a file it is the sentences of the noise; say
beside a score which text it was). Answers are predicted byte by byte with the correct beginning given, several in the
order of the questions, then of the context, joined as ", " and ", and ", of which only the values are scored; RULER
lets the model write 128 tokens and takes any order. For one value a right answer here and there is the same thing; of
several, a mistake here does not carry over to the next one.
"""

import dataclasses
import uuid
from typing import Literal, NamedTuple

import numpy as np

from memjax.tasks import _text
from memjax.tasks._base import Predictions, Rows, TaskConfig, changed
from memjax.tasks._per_row import hits
from memjax.tasks._words import ADJECTIVES, NOUNS

Variant = Literal[
    "single_1", "single_2", "single_3", "multikey_1", "multikey_2", "multikey_3", "multivalue", "multiquery"
]


class _Kind(NamedTuple):
    haystack: Literal["noise", "text", "needles"]
    key: Literal["words", "uuids"] = "words"
    value: Literal["numbers", "uuids"] = "numbers"
    keys: int = 1
    values: int = 1  # of each key
    queries: int = 1


VARIANTS: dict[str, _Kind] = {
    "single_1": _Kind("noise"),
    "single_2": _Kind("text"),
    "single_3": _Kind("text", value="uuids"),
    "multikey_1": _Kind("text", keys=4),
    "multikey_2": _Kind("needles"),
    "multikey_3": _Kind("needles", key="uuids", value="uuids"),
    "multivalue": _Kind("text", values=4),
    "multiquery": _Kind("text", keys=4, queries=4),
}
DEPTHS = np.round(np.linspace(0, 100, 40)) / 100
"""The depths of RULER, as shares of the text."""
DIGITS, UUID = 7, 36  # bytes of a value


@dataclasses.dataclass(frozen=True)
class NeedlesConfig(TaskConfig):
    """Which needles in which haystack. Raises ValueError where a row has no room for its needles and question."""

    vocab_size: int = _text.VOCABULARY
    """Number of distinct token ids, at least 257: bytes and the end of the text."""
    length: int = 1024
    """Length of a row, in bytes: prompt, haystack and answer."""
    variant: Variant = "single_1"
    """Which of RULER's eight needle tasks."""
    haystack: str = ""
    """Text file for the variants that have text; empty: sentences of the noise."""
    depth: float | None = None
    """Where the asked needles stand, as a share of the haystack's sentences (0 to 1); None: anywhere."""

    def __post_init__(self):
        if self.vocab_size < _text.VOCABULARY:
            raise ValueError(f"needles: vocab_size must be at least {_text.VOCABULARY}, got {self.vocab_size}")
        if self.variant not in VARIANTS:
            raise ValueError(f"needles: variant must be one of {', '.join(VARIANTS)}, got {self.variant!r}")
        if self.depth is not None and not 0 <= self.depth <= 1:
            raise ValueError(f"needles: depth must lie between 0 and 1, got {self.depth}")
        if self.length < (needed := _longest_bare(VARIANTS[self.variant])):
            raise ValueError(f"needles: length {self.length} is too short for {self.variant}, which takes {needed}")
        if self.variant == "multikey_2" and _most(self) >= len(ADJECTIVES) * len(NOUNS):
            words = len(ADJECTIVES) * len(NOUNS)
            raise ValueError(f"needles: length {self.length} has room for {_most(self)} needles, of {words} words")


Config = NeedlesConfig


def generate(rng: np.random.Generator, n: int, config: NeedlesConfig) -> Rows:
    """Draws `n` rows.

    Args:
        rng: draws keys, values, places, and where the text starts.
        n: number of rows.
        config: which rows.

    Returns:
        "tokens" and "targets", int32 [n, length]; a target is the next byte of a value asked for, or -1 (not scored).

    Raises FileNotFoundError or ValueError where `haystack` names no file, or an empty one.
    """
    return _text.pack([_row(rng, config) for _ in range(n)], config.length)


def _row(rng: np.random.Generator, config: NeedlesConfig) -> tuple[bytes, list[_text.Span]]:
    """The text of a row and the spans of the values in its answer."""
    kind = VARIANTS[config.variant]
    keys = _draw_keys(rng, kind.key, kind.keys + (_most(config) if kind.haystack == "needles" else 0))
    needles = [(key, _draw_value(rng, kind.value)) for key in keys[: kind.keys] for _ in range(kind.values)]
    asked = [keys[i] for i in rng.permutation(kind.keys)[: kind.queries]]
    head, tail = _frame(kind, asked)
    bare = len(head) + len(tail) + _answer_bytes(kind)
    room = config.length - bare - sum(len(_needle(kind, *needle)) + 1 for needle in needles)
    units = _haystack(rng, config, keys[kind.keys :], room)
    places = _places(rng, config, [key in asked for key, _ in needles], len(units))
    order = sorted(range(len(needles)), key=places.__getitem__)
    pieces = [_needle(kind, *needle) for needle in needles]
    context = _text.insert(units, pieces, places, b" " if kind.haystack == "text" else b"\n")
    values = [needles[i][1] for key in asked for i in order if needles[i][0] == key]
    return _answer(head + context + tail, values)


def _answer(prompt: bytes, values: list[str]) -> tuple[bytes, list[_text.Span]]:
    """Puts the values after the prompt, as a list in a sentence, and says where they stand."""
    text, spans = prompt + b" ", []
    for i, value in enumerate(values):
        if i:
            text += b", and " if i == len(values) - 1 else b", "
        spans.append((len(text), len(text) + len(value)))
        text += value.encode()
    return text + b".", spans


def _answer_bytes(kind: _Kind) -> int:
    """Bytes of the answer with the blank before it; they do not depend on the values."""
    count, width = kind.queries * kind.values, DIGITS if kind.value == "numbers" else UUID
    return len(_answer(b"", ["0" * width] * count)[0])


def _frame(kind: _Kind, asked: list[str]) -> tuple[bytes, bytes]:
    """What stands before the haystack, and after it: the question and the answer's prefix."""
    several = kind.queries * kind.values > 1
    what, a, be, all_ = (
        (kind.value, "Some", "are", "are all the") if several else (kind.value[:-1], "A", "is", "is the")
    )
    names = asked[0] if len(asked) == 1 else ", ".join(asked[:-1]) + ", and " + asked[-1]
    head = (
        f"{a} special magic {what} {be} hidden within the following text. Make sure to memorize it. "
        f"I will quiz you about the {what} afterwards.\n"
    )
    tail = (
        f"\nWhat {all_} special magic {what} for {names} mentioned in the provided text? "
        f"The special magic {what} for {names} mentioned in the provided text {be}"
    )
    return head.encode(), tail.encode()


def _needle(kind: _Kind, key: str, value: str) -> bytes:
    return f"One of the special magic {kind.value} for {key} is: {value}.".encode()


def _haystack(rng: np.random.Generator, config: NeedlesConfig, keys: list[str], room: int) -> list[bytes]:
    """As many whole lines, or words of the text, as fit into `room` with a separator each."""
    kind = VARIANTS[config.variant]
    if kind.haystack == "text":
        return _text.stretch(rng, _text.sentences(config.haystack, "needles: haystack"), room)
    if kind.haystack == "noise":
        line = b" ".join(_text.NOISE)
        return [line] * (room // (len(line) + 1))
    lines = [_needle(kind, key, _draw_value(rng, kind.value)) for key in keys]
    return lines[: int((np.cumsum([len(line) + 1 for line in lines]) <= room).sum())]


def _places(rng: np.random.Generator, config: NeedlesConfig, asked: list[bool], units: int) -> list[int]:
    """Before which unit of the haystack each needle stands."""
    if VARIANTS[config.variant].haystack == "text":
        drawn = (units * rng.choice(DEPTHS, size=len(asked), replace=False)).astype(int)
    else:
        drawn = rng.integers(units + 1, size=len(asked))
    fixed = None if config.depth is None else int(units * config.depth)
    return [fixed if mine and fixed is not None else int(place) for mine, place in zip(asked, drawn, strict=True)]


def _most(config: NeedlesConfig) -> int:
    """How many needles a row can hold, at most."""
    kind = VARIANTS[config.variant]
    key = "0" * UUID if kind.key == "uuids" else min(ADJECTIVES, key=len) + "-" + min(NOUNS, key=len)
    return config.length // (len(_needle(kind, key, "0" * (DIGITS if kind.value == "numbers" else UUID))) + 1)


def _longest_bare(kind: _Kind) -> int:
    """Bytes of a row without any haystack, at most."""
    key = "0" * UUID if kind.key == "uuids" else max(ADJECTIVES, key=len) + "-" + max(NOUNS, key=len)
    needle = _needle(kind, key, "0" * (DIGITS if kind.value == "numbers" else UUID))
    around = sum(map(len, _frame(kind, [key] * kind.queries))) + _answer_bytes(kind)
    return around + kind.keys * kind.values * (len(needle) + 1)


def _draw_keys(rng: np.random.Generator, kind: str, count: int) -> list[str]:
    """`count` different keys."""
    if kind == "uuids":
        return [_uuid(rng) for _ in range(count)]
    codes = rng.choice(len(ADJECTIVES) * len(NOUNS), size=count, replace=False)
    return [f"{ADJECTIVES[i // len(NOUNS)]}-{NOUNS[i % len(NOUNS)]}" for i in codes]


def _draw_value(rng: np.random.Generator, kind: str) -> str:
    return _uuid(rng) if kind == "uuids" else str(rng.integers(10 ** (DIGITS - 1), 10**DIGITS))


def _uuid(rng: np.random.Generator) -> str:
    return str(uuid.UUID(bytes=rng.bytes(16), version=4))


def score(predictions: Predictions, data: Rows, config: NeedlesConfig) -> dict[str, float]:
    """Scores predicted bytes; the correct beginning of the answer is given to the model.

    Args:
        predictions: [n, T], the byte predicted at each position.
        data: what `generate` returned.
        config: unused here; every task takes it.

    Returns:
        "accuracy": share of a row's values that the predicted text contains, mean over rows (RULER's metric);
        "token_accuracy": share of value bytes that are right.
    """
    right, mask = hits(predictions, data)
    recall = _text.string_recall(np.asarray(predictions), data["targets"])
    return {"accuracy": recall, "token_accuracy": float(right[mask].mean())}


def scored(config: NeedlesConfig) -> int:
    """Returns the number of scored positions in a row."""
    kind = VARIANTS[config.variant]
    return kind.queries * kind.values * (DIGITS if kind.value == "numbers" else UUID)


def describe(config: NeedlesConfig) -> dict[str, str | int | float]:
    """Returns the axes that a report shows."""
    text = {"haystack": _text.title(config.haystack)} if VARIANTS[config.variant].haystack == "text" else {}
    return {"variant": config.variant, "length": config.length, **changed(config, "depth"), **text}


def chance(config: NeedlesConfig) -> float:
    """Returns the accuracy of guessing a value of the right kind without the text: a number, or 122 random bits."""
    return 1 / (9 * 10 ** (DIGITS - 1)) if VARIANTS[config.variant].value == "numbers" else 2.0**-122
