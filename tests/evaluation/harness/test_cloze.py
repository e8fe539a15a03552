"""The cloze protocol by hand-made cases: where the window lies, what the prompt says, what counts as an answer."""

import json

import pytest

from memjax.data.tokenizers import ByteTokenizer
from memjax.evaluation.harness import cloze
from memjax.evaluation.harness.cloze import Item

BYTES = ByteTokenizer()


@pytest.mark.parametrize(
    ("text", "answers", "found"),
    [
        ("red, then Red", ["Red"], "Red"),  # as it is written, though another case comes first
        ("RED, then blue", ["red"], "RED"),
        ("blue, then red", ["green", "red", "blue"], "red"),  # the first name that occurs, not the first place
        ("costs 5$ (net) or C++?", ["C++"], "C++"),
        ("aab a.b", ["a.b"], "a.b"),
        ("in der Straße", ["STRASSE", "straße"], "Straße"),
        ("nothing here", ["gold"], None),
        ("twice: gold, gold", ["gold"], "gold"),
    ],
)
def test_find(text, answers, found):
    span = cloze.find(text, answers)
    assert (span and text[slice(*span)]) == found
    if span and found:
        assert span[0] == text.find(found)


TEXT = "0123456789" * 10


@pytest.mark.parametrize(
    ("span", "tokens", "kept"),
    [
        ((50, 52), 10, (46, 56)),  # four before, four behind
        ((50, 51), 10, (45, 55)),  # what cannot be halved is one longer before the answer
        ((50, 53), 9, (47, 56)),
        ((0, 2), 10, (0, 10)),
        ((1, 3), 10, (0, 10)),
        ((98, 100), 10, (90, 100)),
        ((97, 99), 10, (90, 100)),
        (None, 10, (0, 10)),
        ((40, 60), 10, (40, 50)),  # an answer that does not fit keeps its beginning
        ((95, 100), 3, (95, 98)),
        ((40, 50), 10, (40, 50)),
        ((50, 52), 100, (0, 100)),
        ((50, 52), 1000, (0, 100)),
        ((50, 51), 1, (50, 51)),
    ],
)
def test_window(span, tokens, kept):
    assert cloze.window(TEXT, span, tokens, BYTES) == TEXT[slice(*kept)]


def test_window_leaves_out_broken_characters():
    text = "ééééGOLDéééé"  # two bytes each
    span = cloze.find(text, ["GOLD"])
    assert span is not None
    assert cloze.window(text, span, 8, BYTES) == "éGOLDé"
    assert cloze.window(text, span, 7, BYTES) in ("éGOLD", "GOLDé")  # the odd byte is no character


def test_window_counts_the_tokens_of_the_tokenizer(pairs):
    text = "the end of the fox " * 20 + "GOLD" + " the quick brown fox" * 20
    span = cloze.find(text, ["gold"])
    kept = cloze.window(text, span, 40, pairs)
    assert "GOLD" in kept and kept in text
    assert len(pairs.encode(kept)) == 40 < len(kept)  # whole words of this text are tokens, and cut nowhere else
    before, behind = (len(pairs.encode(part)) for part in kept.split("GOLD"))
    assert abs(before - behind) <= 1


def test_the_answer_is_in_every_window_that_can_hold_it(pairs, rng):
    letters = list("the quick é世 fox🙂")
    for _ in range(200):
        words = "".join(rng.choice(letters, size=int(rng.integers(1, 60))))
        start = int(rng.integers(len(words)))
        stop = int(rng.integers(start + 1, len(words) + 1))
        for tokenizer in (BYTES, pairs):
            whole = len(tokenizer.encode(words))
            size = max(1, len(tokenizer.encode(words[start:stop])) + 2)  # its tokens may be others in the text
            kept = cloze.window(words, (start, stop), size, tokenizer)
            assert kept in words
            if tokenizer is BYTES or size >= whole:
                assert words[start:stop] in kept


def test_a_window_of_nothing():
    with pytest.raises(ValueError, match="at least 1 token, got 0"):
        cloze.window(TEXT, None, 0, BYTES)


def test_prompt():
    item = Item("A fox ran.", "Who ran?", ("fox",))
    assert cloze.prompt(item) == "A fox ran.\nQuestion: Who ran?\nAnswer:"
    assert cloze.prompt(item, copies=2) == "Who ran?\nA fox ran.\nA fox ran.\nQuestion: Who ran?\nAnswer:"
    stated = item._replace(cloze="The one who ran is the ")
    assert cloze.prompt(stated) == "A fox ran.\nThe one who ran is the"
    assert cloze.prompt(stated, copies=2) == "Who ran?\nA fox ran.\nA fox ran.\nThe one who ran is the"
    assert cloze.prompt(stated._replace(question=""), copies=2).startswith("A fox ran.\nA fox ran.\n")
    with pytest.raises(ValueError, match="not 3 times"):
        cloze.prompt(item, copies=3)


@pytest.mark.parametrize(
    ("prediction", "answers", "right"),
    [
        (" the red FOX, of course", ["Fox"], True),
        (" foxes", ["fox"], True),  # contains, not equals
        (" a fo x", ["fox"], False),
        (" axb", ["a.b"], False),
        (" (a.b)* it is", ["(a.b)*"], True),
        (" C", ["C++"], False),
        (" two", ["one", "TWO"], True),
        (" ÉCOLE", ["école"], True),
        ("", ["fox"], False),
        (" fox", [], False),
    ],
)
def test_contains(prediction, answers, right):
    assert cloze.contains(prediction, answers) is right


def test_answers_of_one_character_do_not_count():
    assert cloze.usable([" 7 ", "", "no", " no", "yes\n"]) == ("no", "yes")


def write(path, *rows):
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_read(tmp_path):
    path = write(
        tmp_path / "items.jsonl",
        {"context": " A fox ran. ", "question": "Who ran?", "answer": " fox\n"},
        "",
        {"context": "c", "question": "q", "answer": ["f", "fox"], "more": 1},
        {"context": "c", "question": "how many?", "answer": "7"},
        {"context": "c", "cloze": "It was a ", "answers": ["fox", "vixen"]},
    )
    assert cloze.read(path) == [
        Item("A fox ran.", "Who ran?", ("fox",)),
        Item("c", "q", ("fox",)),
        Item("c", "", ("fox", "vixen"), "It was a"),
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"context": "c", "question": "q", "answer": "fox"}, "{"], "line 2 is no JSON"),
        ([{"context": "c", "answer": "fox"}], r"line 1 needs the texts context, question \(or cloze\), and answer"),
        ([{"question": "q", "answer": "fox"}], "line 1 needs"),
        ([{"context": "c", "question": "q"}], "line 1 needs"),
        ([{"context": "c", "question": "q", "answer": 7}], "line 1 needs"),
        ([{"context": "c", "question": "q", "answer": ["fox", 7]}], "line 1 needs"),
        ([["context"]], "line 1 needs"),
        ([{"context": "c", "question": "q", "answer": "7"}], "holds no item with an answer"),
        ([""], "holds no item"),
    ],
)
def test_read_refuses(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        cloze.read(write(tmp_path / "items.jsonl", *rows))


def test_a_line_ends_where_json_ends_it(tmp_path):
    path, text = tmp_path / "items.jsonl", "c x\u2028 fox\u0085"
    row = {"context": text, "question": "q", "answer": "fox"}
    path.write_text(json.dumps(row, ensure_ascii=False) + "\r\n", encoding="utf-8")
    assert cloze.read(path) == [Item(text.strip(), "q", ("fox",))]


def test_read_needs_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        cloze.read(tmp_path / "nothing.jsonl")
