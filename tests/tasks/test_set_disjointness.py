"""Set disjointness: what solves it, the shared token's places, the same rows for the same seed, and what is refused."""

import hashlib

import numpy as np
import pytest

from memjax.tasks import set_disjointness as task

CONFIG = task.Config()
SMALL = task.Config(vocab_size=11, first=3, second=4)


def lists(row):
    """The two lists of a row."""
    between = row.index(task.SECOND)
    assert row[0] == task.FIRST and row[-1] == task.ASK
    return row[1:between], row[between + 1 : -1]


def solve(tokens):
    answers = np.full_like(tokens, -1)
    for row, answer in zip(tokens.tolist(), answers, strict=True):
        first, second = lists(row)
        (answer[-1],) = set(first) & set(second)
    return answers


@pytest.mark.parametrize("config", [CONFIG, SMALL, task.Config(first=256, second=4), task.Config(first=1, second=1)])
def test_the_intersection_solves_it(config):
    data = task.generate(np.random.default_rng(0), 50, config)
    assert task.score(solve(data["tokens"]), data, config) == {"accuracy": 1.0}
    assert data["tokens"].shape == (50, config.first + config.second + 3)
    assert (data["targets"] >= 0).sum(1).tolist() == [task.scored(config)] * 50
    for row in data["tokens"].tolist():
        first, second = lists(row)
        assert len(set(first)) == config.first and len(set(second)) == config.second and min(first + second) >= 4


def test_the_shared_token_stands_anywhere_in_both_lists():
    data = task.generate(np.random.default_rng(1), 4000, SMALL)
    there = data["tokens"] == data["targets"][:, -1:]
    np.testing.assert_allclose(there.mean(0)[1:4], 1 / 3, atol=0.03)
    np.testing.assert_allclose(there.mean(0)[5:9], 1 / 4, atol=0.03)
    assert there.sum() == 8000
    assert set(np.unique(data["targets"][:, -1])) == set(range(4, 11))


def test_same_seed_same_rows():
    data = task.generate(np.random.default_rng(2), 20, CONFIG)
    assert hashlib.sha256(data["tokens"].astype("<i8").tobytes()).hexdigest()[:16] == "51be44101ddfe04d"


def test_score_by_hand_and_chance():
    data = task.generate(np.random.default_rng(3), 4000, SMALL)
    answers = data["targets"].copy()
    answers[:400, -1] = 0
    assert task.score(answers, data, SMALL) == {"accuracy": 0.9}
    member = np.random.default_rng(4).integers(1, 4, size=(4000, 1))  # any token of the first list
    guess = np.repeat(np.take_along_axis(data["tokens"], member, axis=1), 10, axis=1)
    assert task.score(guess, data, SMALL)["accuracy"] == pytest.approx(task.chance(SMALL), abs=0.03)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vocab_size": 83}, "lists of 16 and 64 tokens need a vocab_size of at least 84, got 83"),
        ({"first": 0}, "first must be positive, got 0"),
        ({"second": -1}, "second must be positive, got -1"),
    ],
)
def test_impossible_configs(fields, message):
    with pytest.raises(ValueError, match=f"set_disjointness: {message}"):
        task.Config(**fields)
