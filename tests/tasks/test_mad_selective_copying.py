"""MAD selective copying: the published placement bit for bit, what solves it, and what is refused."""

import hashlib

import numpy as np
import pytest

from memjax.tasks import mad_selective_copying as task

CONFIG = task.Config()
SMALL = task.Config(vocab_size=6, length=20, copies=5)


def fingerprint(array):
    return hashlib.sha256(array.astype("<i8").tobytes()).hexdigest()[:16]


def solve(tokens, config):
    """Tells the tokens that are neither blank nor the copy token, in order, at the last positions."""
    answers = np.full_like(tokens, -1)
    for row, answer in zip(tokens, answers, strict=True):
        answer[-config.copies :] = row[row < config.vocab_size - 2]
    return answers


def test_published_rows_from_the_published_draws():
    copied = np.random.default_rng(12345).integers(14, size=(200, 16))
    before = np.random.RandomState(12345).randint(0, 16, size=(200, 223))  # numpy's global stream, as published
    data = task.place(copied, before, CONFIG)
    assert fingerprint(data["tokens"]) == "28e1bfeb79e6c637"
    assert fingerprint(np.where(data["targets"] < 0, -100, data["targets"])) == "09b1754cdf24b6c0"


@pytest.mark.parametrize("config", [CONFIG, SMALL, task.Config(length=34)])
def test_reading_what_is_not_blank_solves_it(config):
    data = task.generate(np.random.default_rng(0), 50, config)
    assert task.score(solve(data["tokens"], config), data, config) == {"accuracy": 1.0, "micro_accuracy": 1.0}
    assert (data["targets"] >= 0).sum(1).tolist() == [task.scored(config)] * 50


def test_places():
    tokens = task.generate(np.random.default_rng(1), 2000, SMALL)["tokens"]
    assert (tokens[:, 14] == 5).all() and (tokens[:, 15:] == 4).all(), "copy token, then blanks to answer at"
    assert (tokens[:, 13] < 4).all(), "the last token stands before the copy token"
    # nine blanks, each before one of five tokens: a first blank unless all nine chose another token
    np.testing.assert_allclose((tokens[:, 0] == 4).mean(), 1 - 0.8**9, atol=0.03)


def test_same_seed_same_rows_and_chance():
    data = task.generate(np.random.default_rng(2), 1280, CONFIG)
    assert fingerprint(data["tokens"]) == "36cedae7956ef6e9"
    got = task.score(np.random.default_rng(3).integers(14, size=data["targets"].shape), data, CONFIG)
    np.testing.assert_allclose([got["accuracy"], got["micro_accuracy"]], task.chance(CONFIG), atol=0.01)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"length": 33}, "16 copies need a length of at least 34, got 33"),
        ({"copies": 0}, "copies must be positive, got 0"),
        ({"vocab_size": 2}, "vocab_size must be at least 3, got 2"),
    ],
)
def test_impossible_configs(fields, message):
    with pytest.raises(ValueError, match=f"mad_selective_copying: {message}"):
        task.Config(**fields)
