"""MAD memorization: the published rows bit for bit, facts of the config alone, and what is refused."""

import hashlib

import numpy as np
import pytest

from memjax.tasks import mad_memorization as task

CONFIG = task.Config()


def fingerprint(array):
    return hashlib.sha256(array.astype("<i8").tobytes()).hexdigest()[:16]


def test_published_rows():
    data = task.generate(np.random.default_rng(12345), 200, CONFIG)
    assert fingerprint(data["tokens"]) == "c77f17c02615f082"
    assert fingerprint(np.where(data["targets"] < 0, -100, data["targets"])) == "2358202ce25243ff"


def test_what_other_rows_taught_solves_it():
    taught, asked = (task.generate(np.random.default_rng(seed), 200, CONFIG) for seed in (0, 1))
    table = np.full(256, -1)
    table[taught["tokens"][:, ::2]] = taught["targets"][:, 1::2]
    answers = np.full_like(asked["targets"], -1)
    answers[:, 1::2] = table[asked["tokens"][:, ::2]]
    assert task.score(answers, asked, CONFIG) == {"accuracy": 1.0, "micro_accuracy": 1.0}
    assert (asked["targets"] >= 0).sum(1).tolist() == [task.scored(CONFIG)] * 200


def test_facts_depend_on_their_seed_and_no_value_stands_in_a_row():
    keys, values = task.facts(CONFIG)
    assert sorted(keys) == list(range(127)) and len(set(values)) == 127
    assert values.min() >= 127 and values.max() <= 254
    tokens = task.generate(np.random.default_rng(2), 300, CONFIG)["tokens"]
    assert set(np.unique(tokens)) == {*range(127), 255} and (tokens[:, 1::2] == 255).all()
    np.testing.assert_array_equal(task.facts(task.Config(length=8))[1], values)
    assert not np.array_equal(task.facts(task.Config(map_seed=1))[1], values)
    assert len(task.facts(task.Config(vocab_size=7))[0]) == 3


def test_chance():
    data = task.generate(np.random.default_rng(3), 1280, CONFIG)
    guess = np.random.default_rng(4).choice(task.facts(CONFIG)[1], data["targets"].shape)
    got = task.score(guess, data, CONFIG)
    np.testing.assert_allclose([got["accuracy"], got["micro_accuracy"]], task.chance(CONFIG), atol=0.003)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vocab_size": 2}, "vocab_size must be at least 3, got 2"),
        ({"length": 31}, "even and positive, got 31"),
        ({"map_seed": -1}, "map_seed must not be negative, got -1"),
    ],
)
def test_impossible_configs(fields, message):
    with pytest.raises(ValueError, match=f"mad_memorization: .*{message}"):
        task.Config(**fields)
