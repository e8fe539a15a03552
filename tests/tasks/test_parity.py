"""Parity: counting solves it, the two ways to score, lengths, and what is refused."""

import hashlib

import numpy as np
import pytest

from memjax.tasks import parity
from memjax.tasks.parity import END, ParityConfig

CONFIGS = [
    ParityConfig(length=12),
    ParityConfig(length=12, min_length=3),
    ParityConfig(length=12, scored="last"),
    ParityConfig(length=12, min_length=3, scored="last"),
]


def solve(tokens):
    """Counts the ones of every prefix; a `=` changes nothing."""
    return np.array([[sum(b == 1 for b in row[: t + 1]) % 2 for t in range(len(row))] for row in tokens.tolist()])


@pytest.mark.parametrize("config", CONFIGS)
def test_counting_solves_it(config):
    data = parity.generate(np.random.default_rng(0), 100, config)
    answers = solve(data["tokens"])
    assert set(parity.score(answers, data, config).values()) == {1.0}
    assert parity.score(1 - answers, data, config)["accuracy"] == 0
    assert (data["targets"] >= 0).sum(1).max() <= parity.scored(config)


def test_the_drawn_row():
    bits = [1, 0, 1, 1, 0, 0, 1, 1, 1]
    assert solve(np.array([bits])).tolist() == [[1, 1, 0, 1, 1, 1, 0, 1, 0]]


@pytest.mark.parametrize("scored", ["all", "last"])
def test_numbers_of_bits_are_uniform_and_the_question_follows_them(scored):
    config = ParityConfig(length=12, min_length=3, scored=scored)
    data = parity.generate(np.random.default_rng(1), 4000, config)
    counts = (data["tokens"] != END).sum(1)
    most = 12 if scored == "all" else 11
    assert (counts.min(), counts.max()) == (3, most)
    assert np.bincount(counts)[3:].min() > 4000 / (most - 2) * 0.8
    place = np.arange(12)
    np.testing.assert_array_equal(data["tokens"] == END, place >= counts[:, None])
    asked = place < counts[:, None] if scored == "all" else place == counts[:, None]
    np.testing.assert_array_equal(data["targets"] >= 0, asked)


def test_chance_by_simulation():
    config = ParityConfig(length=40, scored="last")
    data = parity.generate(np.random.default_rng(2), 4000, config)
    guesses = np.random.default_rng(3).integers(2, size=data["tokens"].shape)
    got = parity.score(guesses, data, config)
    assert abs(got["accuracy"] - parity.chance(config)) < 0.03 and abs(got["scaled_accuracy"]) < 0.06


def test_score_by_hand():
    targets = np.array([[1, 0, 1, -1], [0, 0, 1, 1]], np.int32)
    predictions = np.array([[1, 1, 1, 0], [0, 0, 1, 0]])
    got = parity.score(predictions, {"tokens": targets, "targets": targets}, ParityConfig(length=4))
    expected = {"accuracy": (2 / 3 + 3 / 4) / 2, "row_accuracy": 0, "last_accuracy": 0.5, "scaled_accuracy": 0}
    assert got == pytest.approx(expected)


def test_same_seed_same_rows():
    data = parity.generate(np.random.default_rng(7), 20, CONFIGS[3])
    found = hashlib.sha256(data["tokens"].astype("<i8").tobytes() + data["targets"].astype("<i8").tobytes())
    assert found.hexdigest()[:16] == "d8071ca5a69dbff5"


def test_describe():
    assert parity.describe(CONFIGS[0]) == {"scored": "all", "length": 12}
    assert parity.describe(CONFIGS[3]) == {"scored": "last", "length": 12, "min_length": 3}


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"vocab_size": 2}, "vocab_size must be at least 3, got 2"),
        ({"length": 0}, "length 0"),
        ({"length": 1, "scored": "last"}, "length 1"),
        ({"min_length": 0}, "min_length 0"),
        ({"length": 10, "min_length": 10, "scored": "last"}, "between 1 and 9"),
    ],
)
def test_impossible_configs(fields, message):
    with pytest.raises(ValueError, match=f"^parity: .*{message}"):
        ParityConfig(**fields)
