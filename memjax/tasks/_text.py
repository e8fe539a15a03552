"""What the tasks on text share: rows of bytes with scored spans, background text, and the metrics on strings.

Ids are those of memjax's byte tokenizer: a byte of the UTF-8 text is its own id, 256 ends a document and fills a row.
"""

import functools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from memjax.tasks._base import Rows

Span = tuple[int, int]

END = 256
"""The id that ends a text and fills the rest of its row."""
VOCABULARY = 257
"""Bytes and `END`."""

NOISE = (
    b"The grass is green.",
    b"The sky is blue.",
    b"The sun is yellow.",
    b"Here we go.",
    b"There and back again.",
)
"""The background that needs no file: the noise of RULER's first single needle."""


def pack(texts: Sequence[tuple[bytes, Sequence[Span]]], length: int) -> Rows:
    """Turns texts with scored spans into rows.

    A span (start, stop) counts in bytes; the targets of its ids stand one position before them, where they are to be
    predicted. A span that goes one beyond its text scores the `END` that follows. Texts must be shorter than `length`
    or, where no span goes beyond, as long.
    """
    tokens = np.full((len(texts), length), END, np.int32)
    targets = np.full((len(texts), length), -1, np.int32)
    for row, answers, (text, spans) in zip(tokens, targets, texts, strict=True):
        row[: len(text)] = np.frombuffer(text, np.uint8)
        for start, stop in spans:
            answers[start - 1 : stop - 1] = row[start:stop]
    return {"tokens": tokens, "targets": targets}


def string_recall(predictions: Int[np.ndarray, "B T"], targets: Int[np.ndarray, "B T"]) -> float:
    """Share of the answers of a row that its prediction contains as strings, whatever the case; mean over rows.

    Each run of scored positions is an answer. The prediction is the text at all scored positions, runs kept apart, so
    that an answer may stand in the place of another one (`string_match_all` of RULER).
    """
    shares = []
    for got, want in zip(predictions, targets, strict=True):
        places = np.flatnonzero(want >= 0)
        runs = np.split(places, 1 + np.flatnonzero(np.diff(places) > 1))
        said = b"\n".join(_bytes(got[run]) for run in runs)
        shares.append(np.mean([_bytes(want[run]) in said for run in runs]))
    return float(np.mean(shares))


def _bytes(ids: Int[np.ndarray, "L"]) -> bytes:
    """The lower-case text of ids; what is no byte becomes NUL."""
    return np.where((ids >= 0) & (ids < END), ids, 0).astype(np.uint8).tobytes().lower()


@functools.lru_cache(maxsize=8)
def sentences(path: str, field: str) -> tuple[bytes, ...]:
    """The sentences of a text file, white space reduced to single blanks; of `NOISE` if `path` is empty.

    Raises FileNotFoundError or ValueError, in one line that begins with `field`, where there is no text.
    """
    if not path:
        return NOISE
    if not Path(path).expanduser().is_file():
        raise FileNotFoundError(f"{field}: no such file: {path}")
    parts = re.split(rb"(?<=[.!?])\s+|\n\s*\n", Path(path).expanduser().read_bytes())
    found = tuple(b" ".join(part.split()) for part in parts if part.strip())
    if not found:
        raise ValueError(f"{field}: {path} holds no text")
    return found


def title(path: str) -> str:
    """A short name of a background: its file's behind its folder's, as in "wikitext-2-test", or "noise"."""
    return "-".join(filter(None, (Path(path).parent.name, Path(path).stem))) if path else "noise"


def stretch(rng: np.random.Generator, source: Sequence[bytes], room: int) -> list[bytes]:
    """Sentences of `source` from a random one on, in turn, that fill `room` bytes when each is followed by a blank.

    The last one is cut after its last whole word that fits; the source begins again where it ends.
    """
    found, i = [], int(rng.integers(len(source)))
    while room > 0:
        sentence = source[i % len(source)]
        if len(sentence) + 1 > room:
            cut = sentence[:room].rpartition(b" ")[0]  # the blank that follows takes the place of the one cut at
            return [*found, cut] if cut else found
        found.append(sentence)
        room -= len(sentence) + 1
        i += 1
    return found


def insert(units: Sequence[bytes], pieces: Sequence[bytes], places: Sequence[int], joint: bytes = b" ") -> bytes:
    """Joins `units` with each piece put before the unit of its place (at most their number); ties keep their order."""
    keyed = [(i, 1, unit) for i, unit in enumerate(units)]
    keyed += [(place, 0, piece) for place, piece in zip(places, pieces, strict=True)]
    return joint.join(text for *_, text in sorted(keyed, key=lambda item: item[:2]))
