"""Induction heads: what solves it, distances, the same rows for the same seed, and what is refused."""

import hashlib

import numpy as np
import pytest

from memjax.tasks import induction_heads as task

CONFIG = task.Config()
SHORT = task.Config(vocab_size=4, length=6)


def solve(tokens):
    """The token behind the first occurrence of the row's last token."""
    answers = np.full_like(tokens, -1)
    answers[:, -1] = [row[row.index(row[-1]) + 1] for row in tokens.tolist()]
    return answers


@pytest.mark.parametrize("config", [CONFIG, SHORT, task.Config(vocab_size=2, length=3)])
def test_looking_back_solves_it(config):
    data = task.generate(np.random.default_rng(0), 200, config)
    assert task.score(solve(data["tokens"]), data, config) == {"accuracy": 1.0}
    assert (data["targets"] >= 0).sum(1).tolist() == [task.scored(config)] * 200
    special = data["tokens"] == config.vocab_size - 1
    assert (special.sum(1) == 2).all() and special[:, -1].all()


def test_every_distance_is_as_likely():
    tokens = task.generate(np.random.default_rng(1), 4000, SHORT)["tokens"]
    first = (tokens == 3).argmax(1)
    np.testing.assert_allclose(np.bincount(first, minlength=5) / 4000, [0.25] * 4 + [0], atol=0.03)


def test_same_seed_same_rows():
    data = task.generate(np.random.default_rng(2), 20, CONFIG)
    assert hashlib.sha256(data["tokens"].astype("<i8").tobytes()).hexdigest()[:16] == "ed404227f9154c5f"


def test_score_by_hand_and_chance():
    data = task.generate(np.random.default_rng(3), 4000, SHORT)
    answers = data["targets"].copy()
    answers[:1000, -1] = 3
    assert task.score(answers, data, SHORT) == {"accuracy": 0.75}
    guess = np.random.default_rng(4).integers(3, size=data["targets"].shape)
    assert task.score(guess, data, SHORT)["accuracy"] == pytest.approx(task.chance(SHORT), abs=0.03)


@pytest.mark.parametrize(("field", "least"), [("vocab_size", 2), ("length", 3)])
def test_impossible_configs(field, least):
    with pytest.raises(ValueError, match=f"induction_heads: {field} must be at least {least}, got {least - 1}"):
        task.Config(**{field: least - 1})
