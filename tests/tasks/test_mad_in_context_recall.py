"""MAD in-context recall: the published rows bit for bit, what solves them, and what is refused."""

import hashlib

import numpy as np
import pytest

from memjax.tasks import mad_in_context_recall as task

TEST, TRAIN = task.Config(), task.Config(split="train")


def fingerprint(array):
    return hashlib.sha256(array.astype("<i8").tobytes()).hexdigest()[:16]


def solve(tokens):
    """The last value that stood behind the same token."""
    answers = np.full_like(tokens, -1)
    for row, answer in zip(tokens, answers, strict=True):
        worth = {}
        for t in range(0, len(row), 2):
            answer[t] = worth.get(row[t], -1)
            if t + 1 < len(row):
                worth[row[t]] = row[t + 1]
    return answers


def test_published_rows():
    data = task.generate(np.random.default_rng(12345), 200, TEST)
    assert fingerprint(data["tokens"]) == "9b2e545e7ab1b822"
    assert fingerprint(np.where(data["targets"] < 0, -100, data["targets"])) == "3cb736a533e7afde"


@pytest.mark.parametrize("config", [TEST, TRAIN, task.Config(vocab_size=9, length=20)])
def test_a_table_of_the_row_solves_it(config):
    data = task.generate(np.random.default_rng(0), 60, config)
    assert data["tokens"].shape == (60, config.length - 1)
    answers = solve(data["tokens"])
    assert task.score(answers, data, config) == {"accuracy": 1.0, "micro_accuracy": 1.0}
    assert ((data["targets"] >= 0).sum(1) <= task.scored(config)).all()
    assert (data["targets"][:, -1] >= 0).all(), "the last key was seen before"


def test_splits_differ_in_targets_only():
    test, train = (task.generate(np.random.default_rng(1), 20, config) for config in (TEST, TRAIN))
    np.testing.assert_array_equal(test["tokens"], train["tokens"])
    np.testing.assert_array_equal(train["targets"][:, :-1], train["tokens"][:, 1:])
    asked = test["targets"] >= 0
    np.testing.assert_array_equal(test["targets"][asked], train["targets"][asked])
    # the training rows are judged by their answers alone
    guess = np.where(asked, 8, -1)
    assert task.score(guess, train, TRAIN) == task.score(guess, test, TEST)


def test_kinds_and_chance():
    data = task.generate(np.random.default_rng(2), 512, TEST)
    assert set(np.unique(data["tokens"][:, ::2])) == set(range(8))
    assert set(np.unique(data["tokens"][:, 1::2])) == set(range(8, 16))
    guess = np.random.default_rng(3).integers(8, 16, data["targets"].shape)
    got = task.score(guess, data, TEST)
    np.testing.assert_allclose([got["accuracy"], got["micro_accuracy"]], task.chance(TEST), atol=0.015)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"length": 127}, "even, got 127"),
        ({"length": 2}, "at least 4, got 2"),
        ({"vocab_size": 1}, "vocab_size 1 leaves 0 keys"),
    ],
)
def test_impossible_configs(fields, message):
    with pytest.raises(ValueError, match=f"mad_in_context_recall: .*{message}"):
        task.Config(**fields)
