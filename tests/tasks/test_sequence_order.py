"""Sequence order recall: looking the segments up solves it, nothing else does, and what is refused."""

import hashlib

import numpy as np
import pytest

from memjax.tasks import sequence_order
from memjax.tasks.sequence_order import ASK, FIRST, ITEMS, SECOND, SequenceOrderConfig, excerpt_length

CONFIG = SequenceOrderConfig(vocab_size=40, length=40, segment=3, queries=2)
CONFIGS = [CONFIG, SequenceOrderConfig(), SequenceOrderConfig(length=20, segment=1, queries=1)]


def questions(row, config):
    """[(position of the answer, place of the first segment shown, of the second), ...] of a row."""
    excerpt, size, found = row[: excerpt_length(config)], config.segment, []
    for start in range(len(excerpt), len(row), 1 + 2 * size):
        assert row[start] == ASK
        shown = row[start + 1 : start + 1 + size], row[start + 1 + size : start + 1 + 2 * size]
        places = [excerpt.index(segment[0]) for segment in shown]
        assert all(excerpt[p : p + size] == s for p, s in zip(places, shown, strict=True))
        found.append((start + 2 * size, *places))
    return found


@pytest.mark.parametrize("config", CONFIGS)
def test_looking_the_segments_up_solves_it(config):
    data = sequence_order.generate(np.random.default_rng(0), 100, config)
    answers = np.full_like(data["tokens"], -1)
    for row, answer in zip(data["tokens"].tolist(), answers, strict=True):
        for position, one, other in questions(row, config):
            assert abs(one - other) >= config.segment, "they do not overlap"
            answer[position] = FIRST if one < other else SECOND
    assert sequence_order.score(answers, data, config) == {"accuracy": 1.0, "row_accuracy": 1.0}
    assert (data["targets"] >= 0).sum(1).tolist() == [sequence_order.scored(config)] * 100


def test_tokens_of_an_excerpt_are_all_different():
    data = sequence_order.generate(np.random.default_rng(1), 100, CONFIG)
    items = data["tokens"][:, : excerpt_length(CONFIG)]
    assert items.min() >= ITEMS and all(len(set(row)) == items.shape[1] for row in items.tolist())


def test_every_pair_of_places_is_as_likely_and_the_answer_a_coin():
    config = SequenceOrderConfig(length=8 + 3 * 5, segment=2, queries=3)
    data = sequence_order.generate(np.random.default_rng(2), 3000, config)
    found = [q[1:] for row in data["tokens"].tolist() for q in questions(row, config)]
    pairs, counts = np.unique(np.sort(found, axis=1), axis=0, return_counts=True)
    assert pairs.tolist() == [[a, b] for a in range(7) for b in range(a + 2, 7)]
    assert abs(counts / counts.mean() - 1).max() < 0.2
    first = sequence_order.score(np.full_like(data["tokens"], FIRST), data, config)["accuracy"]
    assert abs(first - sequence_order.chance(config)) < 0.03


def test_score_by_hand():
    targets = np.array([[-1, 1, 2], [-1, 1, 1]], np.int32)
    got = sequence_order.score(np.array([[0, 1, 1], [0, 1, 1]]), {"tokens": targets, "targets": targets}, CONFIG)
    assert got == {"accuracy": 0.75, "row_accuracy": 0.5}


def test_same_seed_same_rows():
    data = sequence_order.generate(np.random.default_rng(7), 20, CONFIG)
    found = hashlib.sha256(data["tokens"].astype("<i8").tobytes() + data["targets"].astype("<i8").tobytes())
    assert found.hexdigest()[:16] == "817b909d14d53f3b"


def test_describe():
    assert sequence_order.describe(CONFIG) == {"length": 40, "segment": 3, "queries": 2}


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"segment": 0}, "segment must be positive, got 0"),
        ({"queries": 0}, "queries must be positive, got 0"),
        ({"length": 23}, "length 23 leaves an excerpt of 3 tokens, too short for two segments of 2"),
        ({"length": 10}, "length 10 leaves an excerpt of 0 tokens"),
        ({"vocab_size": 46}, "vocab_size of at least 47, got 46"),
    ],
)
def test_impossible_configs(fields, message):
    with pytest.raises(ValueError, match=f"^sequence_order: .*{message}"):
        SequenceOrderConfig(**fields)


def test_the_tightest_config_exists():
    config = SequenceOrderConfig(vocab_size=7, length=9, segment=2, queries=1)
    tokens = sequence_order.generate(np.random.default_rng(0), 5, config)["tokens"]
    assert np.sort(tokens[:, :4]).tolist() == [[3, 4, 5, 6]] * 5
