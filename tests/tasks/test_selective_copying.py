"""Selective copying: what solves it, places, the same rows for the same seed, and what is refused."""

import hashlib

import numpy as np
import pytest

from memjax.tasks import selective_copying as task

CONFIG = task.Config()
SMALL = task.Config(vocab_size=5, length=10, copies=3)


def solve(tokens, config):
    """Tells the tokens that are no blanks in order, one at each marker."""
    answers = np.full_like(tokens, -1)
    for row, answer in zip(tokens, answers, strict=True):
        read = [token for token in row.tolist() if 0 < token < config.vocab_size - 1]
        answer[row == config.vocab_size - 1] = read
    return answers


@pytest.mark.parametrize("config", [CONFIG, SMALL, task.Config(length=16), task.Config(length=4096)])
def test_reading_what_is_not_blank_solves_it(config):
    data = task.generate(np.random.default_rng(0), 20, config)
    assert task.score(solve(data["tokens"], config), data, config) == {"accuracy": 1.0, "row_accuracy": 1.0}
    assert (data["targets"] >= 0).sum(1).tolist() == [task.scored(config)] * 20
    assert data["tokens"].shape == (20, config.length + config.copies)


def test_every_place_and_token_is_as_likely():
    data = task.generate(np.random.default_rng(1), 3000, SMALL)
    np.testing.assert_allclose((data["tokens"][:, :10] > 0).mean(0), 0.3, atol=0.04)
    counts = np.bincount(data["targets"][:, 10:].reshape(-1), minlength=5)
    np.testing.assert_allclose(counts / 9000, [0, 1 / 3, 1 / 3, 1 / 3, 0], atol=0.03)


def test_same_seed_same_rows():
    data = task.generate(np.random.default_rng(2), 20, CONFIG)
    assert hashlib.sha256(data["tokens"].astype("<i8").tobytes()).hexdigest()[:16] == "56c1914fae59ac00"


def test_score_by_hand_and_chance():
    data = task.generate(np.random.default_rng(3), 500, CONFIG)
    answers = data["targets"].copy()
    answers[0, -1] = answers[0, -2] = answers[7, -1] = 0
    assert task.score(answers, data, CONFIG) == pytest.approx({"accuracy": 1 - 3 / 8000, "row_accuracy": 1 - 2 / 500})
    guess = np.random.default_rng(4).integers(1, 15, data["targets"].shape)
    assert task.score(guess, data, CONFIG)["accuracy"] == pytest.approx(task.chance(CONFIG), abs=0.012)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"length": 15}, "length 15 has no room for 16 copies"),
        ({"copies": 0}, "copies must be positive, got 0"),
        ({"vocab_size": 2}, "vocab_size must be at least 3, got 2"),
    ],
)
def test_impossible_configs(fields, message):
    with pytest.raises(ValueError, match=f"selective_copying: {message}"):
        task.Config(**fields)
