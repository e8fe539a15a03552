"""Where a continuation ends does not depend on how it is cut into blocks."""

import numpy as np
import pytest

from memjax.evaluation.harness import decoding
from memjax.evaluation.harness.decoding import BLOCK, Ending, Sampling, continue_rows, cut
from tests.evaluation.harness.plain import make_model, plain_text


@pytest.mark.parametrize(
    ("text", "until", "wanted"),
    [
        ("one\ntwo", ["\n"], "one"),
        ("one two", ["\n"], None),
        ("one two", ["two", "one"], ""),
        ("abcd", ["bcd", "c"], "ab"),  # "c" is complete first
        ("abcd", ["c", "abc"], ""),  # both at once: the longer one
        ("abc", ["", "c"], "ab"),
        ("abc", [""], None),
        ("", ["a"], None),
    ],
)
def test_cut_at_the_stop_string_that_is_complete_first(text, until, wanted):
    assert cut(text, until) == wanted


def continued(monkeypatch, tokenizer, streams, endings):
    """What `continue_rows` makes of token streams, and from which tokens it drew each block."""
    calls = []

    def decode(model, state, token, key, draws, start, temperature, **options):
        calls.append(np.asarray(token).tolist())
        return np.array([stream[start : start + BLOCK] for stream in streams], np.int32), state

    monkeypatch.setattr(decoding, "decode", decode)
    draws = np.zeros((len(streams), 2), np.uint32)
    last = list(range(100, 100 + len(endings)))
    options = {"seed": 0, "draws": draws, "sampling": Sampling(), "dtype": "float32"}
    return continue_rows(make_model("attention"), None, last, endings, tokenizer, **options), calls


def stream(text: str, length: int = 4 * BLOCK) -> list[int]:
    ids = list(text.encode())
    return ids + [ord("z")] * (length - len(ids))


@pytest.mark.parametrize("shift", range(6))
def test_characters_and_stop_strings_lie_across_blocks(monkeypatch, tokenizer, shift):
    text = "." * (BLOCK - shift) + "é€\n\nmore"
    ending = Ending(60, ("\n\n", "more"))
    (found,), calls = continued(monkeypatch, tokenizer, [stream(text)], [ending])
    assert found == "." * (BLOCK - shift) + "é€"
    assert found == plain_text(stream(text), tokenizer, ending.until)
    assert len(calls) == -(-len(text.encode().split(b"more")[0]) // BLOCK)


def test_each_row_ends_where_its_own_request_says(monkeypatch, tokenizer):
    streams = [stream("a\nb"), stream("abc"), [*stream("no", 2), 256, *stream("w")], stream("é" * 30), stream("x")]
    endings = [Ending(30, ("\n",)), Ending(2), Ending(30), Ending(5)]  # the fifth row only fills the batch
    found, calls = continued(monkeypatch, tokenizer, streams, endings)
    assert found == ["a", "ab", "no", "éé�"]
    assert calls == [[100, 101, 102, 103, 0]]


def test_rows_that_go_on_are_drawn_from_where_the_block_ended(monkeypatch, tokenizer):
    found, calls = continued(monkeypatch, tokenizer, [stream("a\n"), stream("b" * 50)], [Ending(40, ("\n",))] * 2)
    assert found == ["a", "b" * 40]
    assert calls == [[100, 101], [ord("z"), ord("b")], [ord("z"), ord("b")]]
