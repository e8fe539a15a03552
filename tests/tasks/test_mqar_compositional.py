"""Compositional MQAR: both tokens of a key solve it, one of them does not, and what is refused."""

import hashlib

import numpy as np
import pytest

from memjax.tasks import mqar_compositional
from memjax.tasks.mqar_compositional import CompositionalMQARConfig

CONFIG = CompositionalMQARConfig(vocab_size=96, length=70, pairs=9)
ZERO_FILLER = CompositionalMQARConfig(vocab_size=96, length=70, pairs=9, random_non_queries=False)


def test_published_rows():
    # the example that the published generator prints in its documentation: seed 42, three rows
    config = CompositionalMQARConfig(vocab_size=150, length=30, random_non_queries=False)
    data = mqar_compositional.generate(np.random.RandomState(42), 3, config)
    assert data["tokens"][0, :14].tolist() == [46, 96, 101, 14, 96, 128, 46, 87, 109, 14, 87, 112, 14, 96]
    assert data["targets"][0, :14].tolist() == [-1] * 13 + [128]


def solve(tokens, used):
    """Looks the last tokens up among the context's keys, of which the part `used` is kept."""
    answers = np.full_like(tokens, -1)
    for row, answer in zip(tokens.tolist(), answers, strict=True):
        table = {tuple(row[i : i + 2][used]): row[i + 2] for i in range(0, 27, 3)}
        answer[1:] = [table.get(tuple(row[t - 1 : t + 1][used]), -1) for t in range(1, len(row))]
    return answers


@pytest.mark.parametrize("config", [CONFIG, ZERO_FILLER])
def test_the_whole_key_solves_it(config):
    data = mqar_compositional.generate(np.random.default_rng(0), 100, config)
    got = mqar_compositional.score(solve(data["tokens"], slice(0, 2)), data, config)
    assert got == {"accuracy": 1.0, "row_accuracy": 1.0}
    assert (data["targets"] >= 0).sum(1).tolist() == [mqar_compositional.scored(config)] * 100


@pytest.mark.parametrize("used", [slice(0, 1), slice(1, 2)])
def test_one_token_of_the_key_gets_a_value_of_its_row_or_column(used):
    data = mqar_compositional.generate(np.random.default_rng(1), 100, CONFIG)
    got = mqar_compositional.score(solve(data["tokens"], used), data, CONFIG)["accuracy"]
    np.testing.assert_allclose(got, 1 / 3)  # exactly one of three, for each


def test_context_is_a_whole_grid_in_random_order():
    context = mqar_compositional.generate(np.random.default_rng(2), 200, CONFIG)["tokens"][:, :27].reshape(200, 9, 3)
    first, second, values = np.moveaxis(context, 2, 0)
    for tokens, (low, high) in zip((first, second, values), ((1, 32), (32, 64), (64, 96)), strict=True):
        assert tokens.min() == low and tokens.max() == high - 1
    assert {len(set(row)) for row in first.tolist()} == {len(set(row)) for row in second.tolist()} == {3}
    assert {len(set(map(tuple, row))) for row in context[..., :2].tolist()} == {9}
    assert {len(set(row)) for row in values.tolist()} == {9}
    same = (first[:, 0] == first[:, 1]).mean()
    assert abs(same - 2 / 8) < 0.1, "two of the other eight cells share the row of the first"


def test_slots_follow_the_power_law_and_free_places_are_filled():
    plain = mqar_compositional.generate(np.random.default_rng(3), 2000, ZERO_FILLER)
    rows, positions = np.nonzero(plain["targets"] >= 0)
    assert set(((positions - 28) % 3).tolist()) == {0}
    slots = (positions - 28) // 3
    used = np.bincount(slots, minlength=14) / 2000
    assert slots.max() == 13 and len(rows) == 18_000 and used[0] > 0.95 > 0.6 > used[13]
    filled = mqar_compositional.generate(np.random.default_rng(3), 2000, CONFIG)
    np.testing.assert_array_equal(filled["targets"], plain["targets"])
    placed = plain["tokens"] != 0
    np.testing.assert_array_equal(filled["tokens"][placed], plain["tokens"][placed])
    assert np.unique(filled["tokens"][~placed]).tolist() == list(range(96))


def test_chance_by_simulation():
    data = mqar_compositional.generate(np.random.default_rng(4), 2000, CONFIG)
    guesses = np.random.default_rng(5).integers(64, 96, size=data["tokens"].shape)
    got = mqar_compositional.score(guesses, data, CONFIG)["accuracy"]
    assert abs(got - mqar_compositional.chance(CONFIG)) < 0.007


@pytest.mark.parametrize("config, fingerprint", [(CONFIG, "f4a15978033b8aac"), (ZERO_FILLER, "f239f7c90bd12efe")])
def test_same_seed_same_rows(config, fingerprint):
    data = mqar_compositional.generate(np.random.default_rng(7), 20, config)
    found = hashlib.sha256(data["tokens"].astype("<i8").tobytes() + data["targets"].astype("<i8").tobytes())
    assert found.hexdigest()[:16] == fingerprint


def test_score_by_hand_and_describe():
    targets = np.array([[5, 6, -1, 7], [5, 6, 7, -1]], np.int32)
    got = mqar_compositional.score(
        np.array([[5, 6, 7, 8], [5, 6, 7, 8]]), {"tokens": targets, "targets": targets}, CONFIG
    )
    assert got == pytest.approx({"accuracy": 5 / 6, "row_accuracy": 0.5})
    assert mqar_compositional.describe(CONFIG) == {"pairs": 9, "length": 70}


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"pairs": 5}, "pairs must be a perfect square, got 5"),
        ({"pairs": 0}, "pairs must be positive, got 0"),
        ({"power": 0.0}, "power must be positive"),
        ({"pairs": 16}, "16 pairs and their queries take 96 tokens, but length is 64"),
        ({"vocab_size": 8}, "vocab_size 8 has 1 first tokens and 4 values, too few for 2 and 4"),
        ({"vocab_size": 11, "pairs": 9}, "has 2 first tokens and 5 values"),
    ],
)
def test_impossible_configs(fields, message):
    with pytest.raises(ValueError, match=f"^mqar_compositional: .*{message}"):
        CompositionalMQARConfig(**fields)


def test_the_tightest_config_exists():
    config = CompositionalMQARConfig(vocab_size=10, length=24, random_non_queries=False)
    tokens = mqar_compositional.generate(np.random.default_rng(0), 3, config)["tokens"]
    assert np.unique(tokens[:, 2:12:3]).tolist() == [6, 7, 8, 9] and (tokens[:, 14::3] == 0).all()
