"""MAD noisy in-context recall: the published rows bit for bit, what solves them, and what is refused."""

import hashlib

import numpy as np
import pytest

from memjax.tasks import mad_noisy_in_context_recall as task

CONFIG = task.Config()


def fingerprint(array):
    return hashlib.sha256(array.astype("<i8").tobytes()).hexdigest()[:16]


def solve(tokens, keys, ordinary):
    """The value that stood behind the same key; noise is passed over."""
    answers = np.full_like(tokens, -1)
    for row, answer in zip(tokens.tolist(), answers, strict=True):
        worth, key = {}, None
        for t, token in enumerate(row):
            if token < keys:
                key, answer[t] = token, worth.get(token, -1)
            elif token < ordinary:
                worth[key] = token
    return answers


def test_published_rows():
    data = task.generate(np.random.default_rng(12345), 200, CONFIG)
    assert fingerprint(data["tokens"]) == "8074b3733b037087"
    assert fingerprint(np.where(data["targets"] < 0, -100, data["targets"])) == "8ff81f75640440b1"


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("noise", [0.0, 0.2, 0.8])
def test_a_table_of_the_row_solves_it(split, noise):
    config = task.Config(noise=noise, split=split, length=64)
    data = task.generate(np.random.default_rng(0), 40, config)
    answers = solve(data["tokens"], 8, 16)
    assert task.score(answers, data, config) == {"accuracy": 1.0, "micro_accuracy": 1.0}
    assert ((data["targets"] >= 0).sum(1) <= task.scored(config)).all()


def test_noise_comes_in_pairs_at_its_rate():
    tokens = task.generate(np.random.default_rng(1), 250, task.Config(noise=0.4))["tokens"][:, :126].reshape(250, 63, 2)
    noisy = tokens >= 16
    np.testing.assert_array_equal(noisy[..., 0], noisy[..., 1])
    np.testing.assert_allclose(noisy.mean(), 0.4 * (1 - 1 / 64), atol=0.015)
    assert set(np.unique(tokens[noisy])) == set(range(16, 32))
    assert tokens[~noisy].reshape(-1, 2)[:, 0].max() == 7 and tokens[~noisy].reshape(-1, 2)[:, 1].min() == 8


def test_chance():
    data = task.generate(np.random.default_rng(2), 512, CONFIG)
    got = task.score(np.random.default_rng(3).integers(8, 16, data["targets"].shape), data, CONFIG)
    np.testing.assert_allclose([got["accuracy"], got["micro_accuracy"]], task.chance(CONFIG), atol=0.015)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vocab_size": 17}, "leaves 0 keys"),
        ({"noise": 1.0}, "noise must lie in .*got 1.0"),
        ({"noise": float("nan")}, "got nan"),
        ({"noise_vocab_size": 0}, "noise_vocab_size must be positive, got 0"),
        ({"length": 9}, "even, got 9"),
    ],
)
def test_impossible_configs(fields, message):
    with pytest.raises(ValueError, match=f"mad_noisy_in_context_recall: .*{message}"):
        task.Config(**fields)
