"""MQAR: the published rows bit for bit, their statistics, and what is refused."""

import dataclasses
import hashlib

import numpy as np
import pytest

from memjax.tasks import mqar
from memjax.tasks.mqar import MQARConfig

# (length, pairs, seed of the published test slice, sha256 of the inputs, of the labels): 1000 rows each
PUBLISHED = [
    (64, 4, 2967327842, "f48dbe0ef6c9753d", "36e8ea5776aeebcc"),
    (64, 8, 2367878886, "193d1540bb7147f4", "d12aa80276ca22e9"),
    (64, 16, 3088727057, "55ffa85689881188", "1dfa0064215f84da"),
    (128, 32, 3090095699, "37c4d8ab6e13d966", "9bb637f63582acd2"),
    (256, 64, 4256823402, "2f668c3d4f1b5d94", "34d61f3423106e87"),
    (512, 128, 3964712059, "009239b45f83cc1c", "9847ec3a93e9ce25"),
    (1024, 256, 3350193721, "2ebb4a9d6d01c9a6", "2354543e0f1eaf1e"),
]
ZERO_FILLER = MQARConfig(random_non_queries=False)


def fingerprint(array):
    return hashlib.sha256(array.astype("<i8").tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("length, pairs, seed, inputs, labels", PUBLISHED)
def test_published_rows(length, pairs, seed, inputs, labels):
    config = MQARConfig(length=length, pairs=pairs, random_non_queries=False)
    data = mqar.generate(np.random.RandomState(seed), 1000, config)
    assert fingerprint(data["tokens"]) == inputs
    assert fingerprint(np.where(data["targets"] < 0, -100, data["targets"])) == labels


def test_published_first_tokens():
    data = mqar.generate(np.random.RandomState(PUBLISHED[0][2]), 1000, ZERO_FILLER)
    assert data["tokens"][0, :6].tolist() == [2365, 5943, 2147, 6422, 3360, 5596]


def solve(tokens, pairs):
    """Looks every token up among the row's own pairs."""
    answers = np.full_like(tokens, -1)
    for row, answer in zip(tokens, answers, strict=True):
        table = dict(zip(row[0 : 2 * pairs : 2].tolist(), row[1 : 2 * pairs : 2].tolist(), strict=True))
        answer[:] = [table.get(t, -1) for t in row.tolist()]
    return answers


@pytest.mark.parametrize("filler", [False, True])
def test_a_table_look_up_solves_it(filler):
    config = MQARConfig(vocab_size=64, length=32, pairs=5, random_non_queries=filler)
    data = mqar.generate(np.random.default_rng(0), 50, config)
    answers = solve(data["tokens"], 5)
    assert mqar.score(answers, data, config) == {"accuracy": 1.0, "row_accuracy": 1.0}
    assert (data["targets"] >= 0).sum(1).tolist() == [mqar.scored(config)] * 50
    # one wrong answer in one of 50 rows of 5
    answers[0, np.argmax(data["targets"][0] >= 0)] += 1
    got = mqar.score(answers, data, config)
    np.testing.assert_allclose([got["accuracy"], got["row_accuracy"]], [1 - 1 / 250, 0.98])


def test_shapes_ranges_and_distinctness():
    data = mqar.generate(np.random.default_rng(1), 200, ZERO_FILLER)
    assert {name: (a.shape, a.dtype) for name, a in data.items()} == {
        "tokens": ((200, 64), np.int32),
        "targets": ((200, 64), np.int32),
    }
    keys, values = data["tokens"][:, 0:8:2], data["tokens"][:, 1:8:2]
    assert keys.min() >= 1 and keys.max() < 4096 and values.min() >= 4096 and values.max() < 8192
    for row in np.concatenate([keys, values], 1):
        assert len(set(row)) == 8
    assert (np.sort(data["tokens"][:, 8:], 1)[:, -4:] == np.sort(keys, 1)).all()
    assert (data["tokens"][:, 9::2] == 0).all() and (data["targets"][:, :8] == -1).all()


def test_filler_changes_free_positions_only():
    with_filler = mqar.generate(np.random.default_rng(2), 100, MQARConfig(vocab_size=256))
    without = mqar.generate(np.random.default_rng(2), 100, MQARConfig(vocab_size=256, random_non_queries=False))
    np.testing.assert_array_equal(with_filler["targets"], without["targets"])
    placed = without["tokens"] != 0
    np.testing.assert_array_equal(with_filler["tokens"][placed], without["tokens"][placed])
    filled = with_filler["tokens"][~placed]
    assert filled.min() == 0 and filled.max() == 255 and abs(filled.mean() - 127.5) < 5


@pytest.mark.parametrize("pairs, mean_slot, first_slot", [(4, 7.135, 0.722), (8, 7.612, 0.950)])
def test_power_law_of_the_slots(pairs, mean_slot, first_slot):
    config = MQARConfig(vocab_size=64, pairs=pairs, random_non_queries=False)
    data = mqar.generate(np.random.default_rng(3), 4000, config)
    rows, positions = np.nonzero(data["targets"] >= 0)
    slots = (positions - 2 * pairs) // 2
    np.testing.assert_allclose(slots.mean(), mean_slot, atol=0.2)
    np.testing.assert_allclose((slots == 0).sum() / 4000, first_slot, atol=0.03)
    assert len(rows) == 4000 * pairs


def test_key_j_takes_the_jth_draw():
    # the first draw of a power law stands earlier than the last one
    data = mqar.generate(np.random.default_rng(4), 3000, dataclasses.replace(ZERO_FILLER, vocab_size=64))
    where = [np.argmax(data["tokens"][:, 8:] == data["tokens"][:, j : j + 1], 1).mean() for j in (0, 6)]
    assert where[0] + 2 < where[1]


def test_same_seed_same_rows():
    first, again = (mqar.generate(np.random.default_rng(7), 3, MQARConfig()) for _ in range(2))
    assert fingerprint(first["tokens"]) == fingerprint(again["tokens"]) == "0df2a70164e2d75d"
    assert mqar.generate(np.random.default_rng(0), 0, MQARConfig())["tokens"].shape == (0, 64)


def test_describe():
    assert mqar.describe(MQARConfig(length=128, pairs=8)) == {"pairs": 8, "length": 128}


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"pairs": 17}, "length is 64"),
        ({"length": 63}, "even"),
        ({"vocab_size": 8}, "3 keys, too few for 4 pairs"),
        ({"vocab_size": 0}, "vocab_size must be positive"),
        ({"pairs": 0}, "pairs must be positive"),
        ({"length": -2}, "length must be positive"),
        ({"power": 0.0}, "power must be positive"),
        ({"power": float("nan")}, "power must be positive"),
    ],
)
def test_impossible_configs(fields, message):
    with pytest.raises(ValueError, match=message) as error:
        MQARConfig(**fields)
    assert "\n" not in str(error.value)


def test_the_tightest_config_exists():
    data = mqar.generate(np.random.default_rng(0), 2, MQARConfig(vocab_size=10, length=16, pairs=4))
    assert sorted(data["tokens"][0, 0:8:2]) == [1, 2, 3, 4]
