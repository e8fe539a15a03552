"""MAD compression: the published sequences bit for bit, what solves the rows, and what is refused."""

import hashlib

import numpy as np
import pytest

from memjax.tasks import mad_compression as task

CONFIG = task.Config()


def fingerprint(array):
    return hashlib.sha256(array.astype("<i8").tobytes()).hexdigest()[:16]


def test_published_sequences():
    data = task.generate(np.random.default_rng(12345), 200, CONFIG)
    assert data["tokens"].shape == (200, 63)
    assert fingerprint(data["tokens"][:, :32]) == fingerprint(data["targets"][:, 31:]) == "bed23d392713ab99"


@pytest.mark.parametrize("config", [CONFIG, task.Config(vocab_size=2, length=2)])
def test_reading_length_minus_one_tokens_back_solves_it(config):
    data = task.generate(np.random.default_rng(0), 50, config)
    back = config.length - 1
    answers = np.concatenate([np.full((50, back), -1), data["tokens"][:, : config.length]], axis=1)
    assert task.score(answers, data, config) == {"accuracy": 1.0, "micro_accuracy": 1.0}
    assert (data["targets"] >= 0).sum(1).tolist() == [task.scored(config)] * 50
    assert (data["targets"][:, :back] == -1).all() and (data["tokens"][:, back:] == config.vocab_size - 1).all()


def test_chance_knows_the_compression_token():
    data = task.generate(np.random.default_rng(1), 1280, CONFIG)
    guess = np.random.default_rng(2).integers(15, size=data["targets"].shape)
    guess[:, -1] = 15
    assert task.score(guess, data, CONFIG)["accuracy"] == pytest.approx(task.chance(CONFIG), abs=0.01)


@pytest.mark.parametrize("field", ["vocab_size", "length"])
def test_impossible_configs(field):
    with pytest.raises(ValueError, match=f"mad_compression: {field} must be at least 2, got 1"):
        task.Config(**{field: 1})
