"""Pieces: every token predicted exactly once, whatever the blocks in which a document comes."""

import numpy as np
import pytest

from memjax.data import pieces as module
from memjax.data.pieces import from_record, pieces, to_record
from memjax.data.tokenizers import ByteTokenizer


def predicted(found):
    """The targets of all pieces in order, and the inputs."""
    parts = [from_record(to_record(p)) for p in found]
    return [np.concatenate([p[name] for p in parts]).tolist() for name in ("tokens", "targets", "bytes")]


@pytest.mark.parametrize("n", [1, 2, 6, 7, 8, 13, 14, 15, 50])
@pytest.mark.parametrize("block", [1, 5, 1 << 20])
def test_every_token_is_predicted_once(n, block, monkeypatch):
    monkeypatch.setattr(module, "TEXT_BLOCK", block)
    text = "".join(chr(97 + i % 26) for i in range(n))
    found = list(pieces(iter([text[:3], text[3:]]), ByteTokenizer(), 7))
    whole = [256, *text.encode(), 256]
    assert all(2 <= p.shape[1] <= 8 for p in found) and all(p.shape[1] == 8 for p in found[:-1])
    tokens, targets, counts = predicted(found)
    assert (tokens, targets) == (whole[:-1], whole[1:])
    assert counts == [1] * n + [0]


def test_an_empty_document_has_no_pieces():
    assert not list(pieces(iter([]), ByteTokenizer(), 7)) + list(pieces(iter(["", ""]), ByteTokenizer(), 7))


class Spaceless(ByteTokenizer):
    """Drops spaces, as word tokenizers do."""

    def encode_counted(self, text):
        ids = np.array(list(text.replace(" ", "").encode()), np.int32)
        return ids, np.ones_like(ids)


def test_bytes_without_a_token_are_not_lost(monkeypatch):
    monkeypatch.setattr(module, "TEXT_BLOCK", 4)
    for text in ("a   bcd", "     a", "a      ", "    "):
        _, targets, counts = predicted(pieces(iter(text), Spaceless(), 3))
        assert sum(counts) == len(text) and targets[-1] == 256


def test_blocks_end_after_a_line_or_a_space(monkeypatch):
    monkeypatch.setattr(module, "TEXT_BLOCK", 6)
    assert list(module._blocks(iter(["one two\nthr", "ee four", "fiveandsix", "x"]))) == [
        "one two\n",
        "three ",
        "fourfiveandsix",
        "x",
    ]
