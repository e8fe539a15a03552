"""Documents cut into pieces that a packed row can hold, and pieces as records.

A document becomes [end] + tokens + [end] and is cut into pieces of `length + 1` tokens that overlap by one: piece n
covers tokens n * length to (n + 1) * length, so every token but the first is predicted exactly once.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Int32

from memjax.data.tokenizers import Tokenizer

TEXT_BLOCK = 1 << 20  # characters tokenized at a time

Piece = Int32[np.ndarray, "two T"]  # token ids; the bytes of text that each stands for


def pieces(document: Iterable[str], tokenizer: Tokenizer, length: int) -> Iterator[Piece]:
    """Yields the pieces of one document, each with 2 to `length + 1` tokens; an empty document has none."""
    rest, owed, empty = np.array([[tokenizer.end], [0]], np.int32), 0, True
    for text in _blocks(document):
        ids, counts = tokenizer.encode_counted(text)
        added = np.stack([ids, counts])
        owed += len(text.encode("utf-8")) - int(counts.sum())
        if len(ids):
            added[1, 0] += owed
            owed = 0
        rest, empty = np.concatenate([rest, added], 1), False
        cuts = range(0, rest.shape[1] - length, length)
        yield from (rest[:, i : i + length + 1] for i in cuts)
        rest = rest[:, len(cuts) * length :]
    if empty:
        return
    # text at the end that gave no token is still text: its bytes go to the end of the document
    rest = np.concatenate([rest, np.array([[tokenizer.end], [owed]], np.int32)], 1)
    yield from (rest[:, i : i + length + 1] for i in range(0, rest.shape[1] - 1, length))


def _blocks(document: Iterable[str]) -> Iterator[str]:
    """Joins and cuts the text into blocks of about TEXT_BLOCK characters, after a line (or a space) if there is one.

    A tokenizer sees a block at a time; a document below that size is seen whole.
    """
    held = ""
    for text in document:
        held += text
        if len(held) >= TEXT_BLOCK:
            cut = max(held.rfind("\n"), 0) or held.rfind(" ")
            yield held[: cut + 1] if cut > 0 else held
            held = held[cut + 1 :] if cut > 0 else ""
    if held:
        yield held


def to_record(piece: Piece) -> bytes:
    """Returns the piece as bytes (little-endian int32: ids, then counts)."""
    return piece.astype("<i4").tobytes()


def from_record(record: bytes) -> dict[str, Int32[np.ndarray, "T"]]:
    """Returns "tokens", "targets" (the next token) and "bytes" (that the target stands for)."""
    ids, counts = np.frombuffer(record, "<i4").astype(np.int32).reshape(2, -1)
    return {"tokens": ids[:-1], "targets": ids[1:], "bytes": counts[1:]}
