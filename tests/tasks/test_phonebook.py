"""Phonebook: what solves it, its layout, score by hand, and what is refused."""

import hashlib

import numpy as np
import pytest

from memjax.tasks import phonebook as task

CONFIG = task.Config()
MIXED = task.Config(vocab_size=24, min_entries=3, max_entries=6)


def read(row):
    """(book, examples, asked name, position of the colon that asks): a book is a list of (name, number)."""
    row = row[row != task.PADDING].tolist()
    parts, entry = [[]], []
    for t, token in enumerate(row):
        if token != task.NEWLINE:
            entry.append(token)
        elif entry:
            assert entry[2] == task.COLON and len(entry) == 13
            parts[-1].append((tuple(entry[:2]), tuple(entry[3:])))
            entry = []
        else:
            parts.append([])
            last = t
    assert entry[2] == task.COLON
    return parts[0], parts[1] if len(parts) > 2 else [], tuple(entry[:2]), last + 3


def solve(tokens):
    answers = np.full_like(tokens, -1)
    for row, answer in zip(tokens, answers, strict=True):
        book, _, name, colon = read(row)
        answer[colon : colon + 10] = dict(book)[name]
    return answers


@pytest.mark.parametrize("config", [CONFIG, MIXED, task.Config(shots=0, min_entries=1, max_entries=3)])
def test_looking_the_name_up_solves_it(config):
    data = task.generate(np.random.default_rng(0), 60, config)
    assert task.score(solve(data["tokens"]), data, config) == {"accuracy": 1.0, "digit_accuracy": 1.0}
    assert (data["targets"] >= 0).sum(1).tolist() == [task.scored(config)] * 60
    assert data["tokens"].shape == (60, 14 * (config.max_entries + config.shots) + 14)
    assert (data["tokens"][:, -1] != task.PADDING).any(), "no longer than it must be"


def test_books_examples_and_questions():
    data = task.generate(np.random.default_rng(1), 300, MIXED)
    sizes, asked, first_digits = set(), set(), set()
    for row in data["tokens"]:
        book, examples, name, _ = read(row)
        names = [entry[0] for entry in book]
        assert len(set(names)) == len(names), "a name stands once"
        assert all(13 <= first < 18 <= last < 24 for first, last in names)
        assert len(set(examples)) == 2 and set(examples) < set(book) and name not in dict(examples)
        sizes.add(len(book))
        asked.add(names.index(name))
        first_digits |= {number[0] for _, number in book}
    assert sizes == {3, 4, 5, 6} and asked == set(range(6)) and first_digits == {6, 7, 8, 9}


def test_targets_are_the_next_tokens():
    data = task.generate(np.random.default_rng(2), 50, MIXED)
    for row, target in zip(data["tokens"], data["targets"], strict=True):
        (places,) = np.nonzero(target >= 0)
        assert row[places[0]] == task.COLON
        np.testing.assert_array_equal(row[places[1:]], target[places[:-1]])
        assert (row[places[-1] + 1 :] == task.PADDING).all()


def test_score_by_hand_and_chance():
    data = task.generate(np.random.default_rng(3), 2000, MIXED)
    answers = data["targets"].copy()
    for row in range(500):
        answers[row, np.argmax(answers[row] >= 0)] = 0  # no number begins with 0
    assert task.score(answers, data, MIXED) == {"accuracy": 0.75, "digit_accuracy": 0.975}
    rng, guess = np.random.default_rng(4), np.full_like(data["targets"], -1)
    for row, said in zip(data["tokens"], guess, strict=True):
        book, examples, _, colon = read(row)
        others = [number for _, number in book if number not in dict(examples).values()]
        said[colon : colon + 10] = others[rng.integers(len(others))]
    assert task.score(guess, data, MIXED)["accuracy"] == pytest.approx(task.chance(MIXED), abs=0.035)


def test_same_seed_same_rows():
    data = task.generate(np.random.default_rng(5), 20, CONFIG)
    assert hashlib.sha256(data["tokens"].astype("<i8").tobytes()).hexdigest()[:16] == "d80c1e5af94ffa18"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"min_entries": 2}, "min_entries must be above 2 shots, got 2"),
        ({"max_entries": 19}, "max_entries 19 lies below min_entries 20"),
        ({"shots": -1}, "shots must not be negative, got -1"),
        ({"vocab_size": 21}, "vocab_size 21 has 16 full names, too few for 20 entries"),
        ({"vocab_size": 5}, "0 full names"),
    ],
)
def test_impossible_configs(fields, message):
    with pytest.raises(ValueError, match=f"phonebook: .*{message}"):
        task.Config(**fields)
