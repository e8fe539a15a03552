"""Bigrams and induction: the row's own successors solve it, the chain is what is said, and what is refused."""

import dataclasses
import hashlib

import numpy as np
import pytest

from memjax.tasks import bigram_induction
from memjax.tasks.bigram_induction import BigramInductionConfig, chain

ALL = BigramInductionConfig(symbols=20, length=60, triggers=3)
INDUCTION = dataclasses.replace(ALL, scored="induction")
RANDOM = dataclasses.replace(INDUCTION, random_triggers=True)
CONFIGS = [ALL, INDUCTION, RANDOM]


def solve(tokens):
    """What came after the last occurrence of the same token, or -1."""
    answers = np.full_like(tokens, -1)
    for row, answer in zip(tokens.tolist(), answers, strict=True):
        after = {}
        for t, token in enumerate(row):
            if t:
                after[row[t - 1]] = token
            answer[t] = after.get(token, -1)
    return answers


@pytest.mark.parametrize("config", CONFIGS)
def test_induction_solves_it(config):
    data = bigram_induction.generate(np.random.default_rng(0), 200, config)
    answers = solve(data["tokens"])
    got = bigram_induction.score(answers, data, config)
    assert got["accuracy"] == 1.0
    assert 0 < (data["targets"] >= 0).sum(1).max() <= bigram_induction.scored(config)
    if config.scored == "all":
        assert got["bigram_accuracy"] < 0.5, "which the chain answers, not the row"
        np.testing.assert_array_equal(data["targets"][:, :-1], data["tokens"][:, 1:])


def test_the_first_occurrence_of_a_trigger_is_not_scored_and_later_ones_are():
    data = bigram_induction.generate(np.random.default_rng(0), 100, INDUCTION)
    triggers = set(chain(INDUCTION)[1][:3].tolist())
    for tokens, targets in zip(data["tokens"].tolist(), data["targets"].tolist(), strict=True):
        expected = [token in triggers and token in tokens[:t] for t, token in enumerate(tokens)]
        assert [target >= 0 for target in targets] == expected
    same = bigram_induction.generate(np.random.default_rng(0), 100, ALL)
    np.testing.assert_array_equal(same["tokens"], data["tokens"])


def test_successors_of_triggers_are_no_triggers_and_uniform():
    data = bigram_induction.generate(np.random.default_rng(1), 4000, INDUCTION)
    triggers = chain(INDUCTION)[1][:3]
    counts = np.zeros(20)
    for trigger in triggers:
        at = data["tokens"][:, :-1] == trigger
        there = data["tokens"][at.any(1), 1:][np.arange(at.any(1).sum()), at[at.any(1)].argmax(1)]
        counts += np.bincount(there, minlength=20)
    assert counts[triggers].sum() == 0
    others = np.delete(counts, triggers)
    assert abs(others / others.mean() - 1).max() < 0.2
    np.testing.assert_allclose(bigram_induction.chance(INDUCTION), 1 / len(others))


def test_the_most_likely_successors_of_other_symbols_are_those_of_the_chain():
    successors, every = chain(ALL)
    assert (np.sort(successors, axis=1) == np.arange(20)).all() and sorted(every) == list(range(20))
    data = bigram_induction.generate(np.random.default_rng(2), 2000, ALL)
    rank = (successors[data["tokens"]] == data["targets"][..., None]).argmax(-1)
    free = ~np.isin(data["tokens"], every[:3])
    found = np.bincount(rank[free], minlength=20) / free.sum()
    weights = 1 / np.arange(1, 21)
    np.testing.assert_allclose(found, weights / weights.sum(), atol=0.01)
    best = bigram_induction.score(successors[data["tokens"], 0], data, ALL)
    np.testing.assert_allclose(best["bigram_accuracy"], 1 / weights.sum(), atol=0.01)
    assert abs(best["accuracy"] - bigram_induction.chance(ALL)) < 0.03, "bigrams say nothing about triggers"


def test_random_triggers_differ_between_rows():
    tokens = bigram_induction.generate(np.random.default_rng(3), 300, RANDOM)
    rows, places = np.nonzero(tokens["targets"] >= 0)
    assert len(set(tokens["tokens"][rows, places].tolist())) == 20
    assert max(len(set(t[m >= 0])) for t, m in zip(tokens["tokens"], tokens["targets"], strict=True)) == 3


def test_the_chain_depends_on_its_seed_alone():
    np.testing.assert_array_equal(chain(ALL)[0], chain(RANDOM)[0])
    assert not np.array_equal(chain(ALL)[0], chain(dataclasses.replace(ALL, chain_seed=1))[0])
    assert not chain(ALL)[0].flags.writeable


def test_score_by_hand():
    tokens = np.zeros((2, 4), np.int32)
    targets = np.array([[-1, 4, 5, -1], [7, -1, -1, -1]], np.int32)
    got = bigram_induction.score(np.array([[4, 4, 4, 4], [7, 4, 4, 4]]), {"tokens": tokens, "targets": targets}, RANDOM)
    assert got == pytest.approx({"accuracy": 2 / 3})


@pytest.mark.parametrize("config, fingerprint", [(ALL, "b598bc48c2b8a024"), (RANDOM, "2414d77917b52b2e")])
def test_same_seed_same_rows(config, fingerprint):
    data = bigram_induction.generate(np.random.default_rng(7), 20, config)
    found = hashlib.sha256(data["tokens"].astype("<i8").tobytes() + data["targets"].astype("<i8").tobytes())
    assert found.hexdigest()[:16] == fingerprint


def test_without_a_trigger_that_stands_twice_nothing_is_right():
    config = dataclasses.replace(INDUCTION, length=3)
    rows = bigram_induction.generate(np.random.default_rng(0), 3, config)
    assert bigram_induction.score(rows["targets"], rows, config)["accuracy"] == 0.0


def test_describe():
    assert bigram_induction.describe(ALL) == {"symbols": 20, "triggers": 3, "length": 60}
    assert bigram_induction.describe(RANDOM)["random_triggers"] is True


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"length": 2}, "length must be at least 3, got 2"),
        ({"triggers": 0}, "triggers 0"),
        ({"triggers": 65}, "triggers 65 must lie below symbols 65"),
        ({"vocab_size": 64}, "vocab_size 64 is less than symbols 65"),
        ({"chain_seed": -1}, "chain_seed must not be negative, got -1"),
        ({"random_triggers": True}, 'random_triggers needs scored="induction"'),
    ],
)
def test_impossible_configs(fields, message):
    with pytest.raises(ValueError, match=f"^bigram_induction: .*{message}"):
        BigramInductionConfig(**fields)
