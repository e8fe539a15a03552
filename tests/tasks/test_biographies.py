"""Biographies: facts that depend on the config alone, rows that can be read back, and what is refused."""

import dataclasses
import hashlib

import numpy as np
import pytest

from memjax.tasks import biographies
from memjax.tasks.biographies import ATTRIBUTES, BIOGRAPHY, BiographiesConfig, population

POOLS = {"first_names": 4, "middle_names": 5, "last_names": 6}
SIZES = {"birth_years": 9, "birth_cities": 10, "universities": 8, "majors": 7, "employers": 11, "work_cities": 6}
TEXT = BiographiesConfig(vocab_size=150, people=30, templates=3, length=2 * BIOGRAPHY + 5, **POOLS, **SIZES)
QUESTION = dataclasses.replace(TEXT, form="question", scored="values", length=40)
WIDTHS = tuple(ATTRIBUTES.values())
# ids by hand: separator, names 1-15, 3 openings for each of six attributes 16-33, six questions 34-39, values from 40
NAMES, OPENINGS, QUESTIONS, VALUES, END = 1, 16, 34, 40, 40 + 28 + 12 + sum(SIZES.values())


def fingerprint(*arrays):
    return hashlib.sha256(b"".join(a.astype("<i8").tobytes() for a in arrays)).hexdigest()[:16]


def facts(config):
    """{name: ((day, month, year), (birth city,), ...)} as token ids."""
    found = {}
    for name, values in zip(*map(np.ndarray.tolist, population(config)), strict=True):
        rest = iter(values)
        found[tuple(name)] = tuple(tuple(next(rest) for _ in range(width)) for width in WIDTHS)
    return found


def read(row, first):
    """[(name, [(attribute, value), ...]), ...] of a row whose sentences or questions begin at id `first`."""
    row, items = row.tolist(), []
    per = TEXT.templates if first == OPENINGS else 1
    while row and row[1:] and row[1]:
        assert row.pop(0) == 0
        name, said = tuple(row[:3]), []
        del row[:3]
        while row and row[0]:
            attribute = (row.pop(0) - first) // per
            said.append((attribute, tuple(row[: WIDTHS[attribute]])))
            del row[: WIDTHS[attribute]]
        items.append((name, said))
    assert not any(row)
    return items


def test_the_population_depends_on_its_config_alone():
    assert biographies.vocabulary(TEXT) == END
    assert fingerprint(*population(BiographiesConfig())) == "3acff3faf5ec6c25"
    for change in ({"form": "question"}, {"power": 1.0}, {"length": 90}, {"scored": "values"}, {"vocab_size": 999}):
        assert facts(dataclasses.replace(TEXT, **change)) == facts(TEXT)
    assert facts(dataclasses.replace(TEXT, population_seed=1)) != facts(TEXT)
    assert not population(TEXT).values.flags.writeable


def test_a_smaller_population_is_the_beginning_of_a_larger_one():
    largest = dataclasses.replace(TEXT, people=4 * 5 * 6)
    assert list(facts(largest).items())[:30] == list(facts(TEXT).items())
    assert len(facts(largest)) == 120, "every name once"


def test_names_and_values_are_of_their_kinds_and_values_uniform():
    config = BiographiesConfig(people=20_000)
    names, values = population(config)
    assert names.dtype == values.dtype == np.int32
    assert (names.min(0) == (1, 401, 801)).all() and (names.max(0) == (400, 800, 1800)).all()
    first = 1801 + 6 * 8 + 6
    for part, size in zip(values.T, biographies.parts(config), strict=True):
        counts = np.bincount(part - first, minlength=size)
        assert len(counts) == size and abs(counts / 20_000 * size - 1).max() < 0.7  # 6 standard deviations
        first += size


def test_a_biography_says_every_fact_once_in_random_order_and_words():
    config = dataclasses.replace(TEXT, length=3 * BIOGRAPHY)
    tokens = biographies.generate(np.random.default_rng(0), 200, config)["tokens"]
    orders = np.zeros((6, 6))
    for row in tokens:
        items = read(row, OPENINGS)
        assert len({name for name, _ in items}) == 3, "of different people"
        for name, said in items:
            assert [value for _, value in sorted(said)] == list(facts(config)[name])
            orders[range(6), [attribute for attribute, _ in said]] += 1
    np.testing.assert_allclose(orders / 600, 1 / 6, atol=0.06)
    counts = np.bincount(tokens[(tokens >= OPENINGS) & (tokens < QUESTIONS)] - OPENINGS)
    np.testing.assert_allclose(counts / 200, 1, atol=0.25)


def test_targets_are_the_next_tokens_of_whole_items():
    data = biographies.generate(np.random.default_rng(1), 20, TEXT)
    tokens, targets = data["tokens"], data["targets"]
    np.testing.assert_array_equal(targets[:, : 2 * BIOGRAPHY], tokens[:, 1 : 2 * BIOGRAPHY + 1])
    assert (tokens[:, 2 * BIOGRAPHY :] == 0).all() and (targets[:, 2 * BIOGRAPHY :] == -1).all()
    values = biographies.generate(np.random.default_rng(1), 20, dataclasses.replace(TEXT, scored="values"))
    np.testing.assert_array_equal(values["tokens"], tokens)
    np.testing.assert_array_equal(values["targets"], np.where(targets >= VALUES, targets, -1))


def test_questions_ask_every_attribute_and_their_answers_are_targets():
    data = biographies.generate(np.random.default_rng(2), 300, QUESTION)
    asked = np.zeros(6)
    for row, targets in zip(data["tokens"], data["targets"], strict=True):
        items = read(row, QUESTIONS)
        assert all(facts(QUESTION)[name][a] == value for name, ((a, value),) in items)
        assert targets[targets >= 0].tolist() == [token for _, ((_, value),) in items for token in value]
        asked += np.bincount([a for _, ((a, _),) in items], minlength=6)
    np.testing.assert_allclose(asked / asked.sum(), 1 / 6, atol=0.04)
    shifted = np.where(data["targets"] >= 0, data["targets"], 0)[:, :-1]
    np.testing.assert_array_equal(shifted, np.where(data["tokens"] >= VALUES, data["tokens"], 0)[:, 1:])


@pytest.mark.parametrize("config", [TEXT, QUESTION, dataclasses.replace(QUESTION, scored="all", length=8)])
def test_the_bound_of_scored_positions_holds(config):
    for scored in ("all", "values"):
        config = dataclasses.replace(config, scored=scored)
        counts = (biographies.generate(np.random.default_rng(3), 2000, config)["targets"] >= 0).sum(1)
        assert counts.max() <= biographies.scored(config)
        if config.form == "text":
            assert (counts == biographies.scored(config)).all()
    assert biographies.scored(dataclasses.replace(QUESTION, scored="values", length=8 * 2 + 7)) == 7


def test_frequent_people_come_by_the_power_law():
    config = dataclasses.replace(TEXT, length=BIOGRAPHY, power=1.0)
    names = biographies.generate(np.random.default_rng(4), 20_000, config)["tokens"][:, 1:4]
    ranks = {name: rank for rank, name in enumerate(facts(config))}
    counts = np.bincount([ranks[tuple(name)] for name in names.tolist()], minlength=30)
    harmonic = sum(1 / rank for rank in range(1, 31))
    np.testing.assert_allclose(counts / 20_000, [1 / rank / harmonic for rank in range(1, 31)], atol=0.01)
    everyone = dataclasses.replace(TEXT, people=3, length=3 * BIOGRAPHY, power=2.0)
    for row in biographies.generate(np.random.default_rng(5), 50, everyone)["tokens"]:
        assert {name for name, _ in read(row, OPENINGS)} == set(facts(everyone))


def test_rows_about_given_people():
    people = np.array([7, 3])
    names = list(facts(TEXT))
    text = biographies.about(np.random.default_rng(6), people, TEXT)
    assert text["tokens"].shape == (2, BIOGRAPHY)
    assert [item[0] for row in text["tokens"] for item in read(row, OPENINGS)] == [names[7], names[3]]
    assert ((text["targets"] >= 0).sum(1) == 8).all()
    asked = biographies.about(np.random.default_rng(6), people, QUESTION)["tokens"]
    assert asked.shape == (12, 8)
    items = [item for row in asked for item in read(row, QUESTIONS)]
    assert items == [(names[p], [(a, facts(TEXT)[names[p]][a])]) for p in people for a in range(6)]


def test_score_counts_values_and_a_date_only_as_a_whole():
    data = biographies.generate(np.random.default_rng(7), 10, TEXT)  # 20 people, 160 value tokens, 120 values
    wrong_words = np.where(data["targets"] < VALUES, -7, data["targets"])
    perfect = biographies.score(wrong_words, data, TEXT)
    assert set(perfect.values()) == {1.0}
    assert set(perfect) == {"accuracy", "attribute_accuracy", *(f"accuracy/{name}" for name in ATTRIBUTES)}
    months = (data["targets"] >= VALUES + 28) & (data["targets"] < VALUES + 40)
    got = biographies.score(np.where(months, -7, wrong_words), data, TEXT)
    expected = perfect | {"accuracy": 140 / 160, "attribute_accuracy": 100 / 120, "accuracy/birth_date": 0.0}
    assert got == pytest.approx(expected)
    guess = np.random.default_rng(8).integers(VALUES, END, data["targets"].shape)
    assert biographies.score(guess, data, TEXT)["accuracy"] < biographies.chance(TEXT) < 0.12


def test_same_seed_same_rows():
    first, again = (biographies.generate(np.random.default_rng(7), 5, TEXT)["tokens"] for _ in range(2))
    assert fingerprint(first) == fingerprint(again) == "fc5f2b482050adce"
    assert biographies.describe(QUESTION) == {"people": 30, "form": "question", "length": 40}
    assert biographies.describe(dataclasses.replace(TEXT, power=1.0))["power"] == 1.0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"people": 0}, "people must be positive"),
        ({"majors": 0}, "majors must be positive"),
        ({"people": 121}, "120 full names are too few for 121 people"),
        ({"vocab_size": 130}, "vocab_size of at least 131, got 130"),
        ({"length": 17}, "length must be at least 18 for a text"),
        ({"form": "question", "length": 7}, "length must be at least 8 for a question"),
        ({"people": 1, "length": 36}, "up to 2 different people"),
        ({"power": 2.5}, "power must lie"),
        ({"power": float("nan")}, "power must lie"),
        ({"population_seed": -1}, "population_seed"),
    ],
)
def test_impossible_configs(fields, message):
    with pytest.raises(ValueError, match=message) as error:
        dataclasses.replace(TEXT, **fields)
    assert "\n" not in str(error.value)
