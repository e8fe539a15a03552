"""String copy and n-gram look-up: what solves them, layouts, score by hand, and what is refused."""

import hashlib

import numpy as np
import pytest

from memjax.tasks import string_copy as task

KINDS = ("copy", "prefix_ngram", "suffix_ngram")
START, BAR, END, PADDING = 26, 27, 28, 29


def text(row):
    return "".join("abcdefghijklmnopqrstuvwxyz$|#*"[token] for token in row)


def question(row, config):
    """(string, n-gram, position of the first answer), read from a row's beginning alone."""
    said = text(row.tolist())
    bars = [t for t, sign in enumerate(said) if sign == "|"]
    if config.kind == "prefix_ngram":
        return said[bars[0] + 1 : bars[1]], said[1 : bars[0]], bars[1]
    size = config.ngram if config.kind == "suffix_ngram" else 0
    return said[1 : bars[0]], said[bars[0] + 1 : bars[0] + 1 + size], bars[0] + size


def solve(tokens, config):
    answers = np.full_like(tokens, -1)
    for row, answer in zip(tokens, answers, strict=True):
        string, gram, at = question(row, config)
        behind = string.index(gram) + len(gram)
        told = string[behind : behind + config.answer] if config.answer else string[behind:]
        answer[at : at + len(told) + 1] = [*(ord(sign) - ord("a") for sign in told), END]
    return answers


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", [0, 4])
def test_reading_the_string_solves_it(kind, answer):
    config = task.Config(kind=kind, answer=answer, min_length=8, max_length=30)
    data = task.generate(np.random.default_rng(0), 200, config)
    assert task.score(solve(data["tokens"], config), data, config) == {"accuracy": 1.0, "token_accuracy": 1.0}
    counts = (data["targets"] >= 0).sum(1)
    assert counts.max() <= task.scored(config) and counts.min() >= 2
    lengths = [len(question(row, config)[0]) for row in data["tokens"]]
    assert set(lengths) == set(range(8, 31))


@pytest.mark.parametrize("kind", KINDS)
def test_targets_are_the_next_tokens_and_the_longest_row_fills_its_length(kind):
    config = task.Config(kind=kind, min_length=4, max_length=5, ngram=2)
    data = task.generate(np.random.default_rng(1), 300, config)
    tokens, targets = data["tokens"], data["targets"]
    asked = targets >= 0
    assert not asked[:, -1].any()
    np.testing.assert_array_equal(targets[:, :-1][asked[:, :-1]], tokens[:, 1:][asked[:, :-1]])
    assert (targets.max(1) == END).all() and (tokens[:, 0] == START).all()
    assert (tokens[:, -1] != PADDING).any(), "no longer than it must be"
    after = np.cumsum(tokens == END, axis=1) > (tokens == END)
    assert (tokens[after] == PADDING).all() and (tokens[~after] != PADDING).all()


@pytest.mark.parametrize("kind", KINDS[1:])
def test_the_ngram_stands_once_and_anywhere(kind):
    config = task.Config(vocab_size=30, letters=3, kind=kind, min_length=9, max_length=9, ngram=2)
    rows = task.generate(np.random.default_rng(2), 400, config)["tokens"]
    places = set()
    for row in rows:
        row = np.where((row >= 3) & (row < 7), row + 23, row)  # three letters: the signs follow them
        string, gram, _ = question(row, config)
        assert sum(string.startswith(gram, i) for i in range(9)) == 1
        places.add(string.index(gram))
    assert places == set(range(7)), "at least one letter follows"


def test_score_by_hand():
    config = task.Config(min_length=3, max_length=3)
    data = task.generate(np.random.default_rng(3), 10, config)
    answers = data["targets"].copy()
    answers[2, 6] = answers[2, 5] = answers[5, 7] = -5
    answers[7, 0] = 3  # not scored
    assert task.score(answers, data, config) == pytest.approx({"accuracy": 0.8, "token_accuracy": 37 / 40})


def test_chance():
    tiny = task.Config(letters=2, min_length=2, max_length=3)
    data = task.generate(np.random.default_rng(4), 4000, tiny)
    guess = np.random.default_rng(5).integers(2, size=data["targets"].shape)
    got = task.score(np.where(data["targets"] == 4, 4, guess), data, tiny)
    assert got["accuracy"] == pytest.approx(task.chance(tiny), abs=0.02) and task.chance(tiny) == (1 / 4 + 1 / 8) / 2
    assert task.chance(task.Config(kind="suffix_ngram", answer=2)) == 1 / 26**2
    lookup = task.Config(kind="prefix_ngram", min_length=5, max_length=5)
    assert task.chance(lookup) == pytest.approx((1 / 26 + 1 / 26**2) / 2)


def test_same_seed_same_rows():
    got = [
        hashlib.sha256(
            task.generate(np.random.default_rng(6), 20, task.Config(kind=kind))["tokens"].astype("<i8").tobytes()
        ).hexdigest()[:16]
        for kind in KINDS
    ]
    assert got == ["50110451a21ba499", "ccf68e8c034890be", "bd006c3b4a02b697"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vocab_size": 29}, "vocab_size must be at least 30, got 29"),
        ({"letters": 1}, "letters must be at least 2, got 1"),
        ({"min_length": 51}, "max_length 50 lies below min_length 51"),
        ({"min_length": 0}, "min_length must be at least 1, got 0"),
        ({"min_length": 3, "kind": "prefix_ngram"}, "min_length must be at least 4, got 3"),
        ({"answer": 21}, "min_length must be at least 21, got 20"),
        ({"answer": -1}, "answer of -1"),
    ],
)
def test_impossible_configs(fields, message):
    with pytest.raises(ValueError, match=f"string_copy: .*{message}"):
        task.Config(**fields)


def test_strings_without_a_single_ngram_are_refused():
    config = task.Config(letters=2, kind="suffix_ngram", ngram=1, min_length=40, max_length=40)
    with pytest.raises(ValueError, match="no ngram of 1 stands just once in strings of 2 letters"):
        task.generate(np.random.default_rng(7), 1, config)
