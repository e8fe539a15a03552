"""Word problems: the group tables are groups, tracking the objects solves it, and what is refused."""

import hashlib
import itertools

import numpy as np
import pytest

from memjax.tasks import word_problem
from memjax.tasks.word_problem import GROUPS, WordProblemConfig, order, table

S5 = WordProblemConfig()


def config_of(group):
    return WordProblemConfig(group=group, length=12)


def test_the_drawn_row():
    products = table("S3")
    assert [int(x) for x in (products[2, 5], products[3, 1], products[5, 0], products[5, 3])] == [3, 5, 5, 1]


@pytest.mark.parametrize("group, size", [("S3", 6), ("S5", 120), ("A5", 60), ("A4xZ5", 60), ("Z60", 60)])
def test_tables_are_groups(group, size):
    products = table(group)
    every = np.arange(size)
    assert products.shape == (size, size) and order(config_of(group)) == size
    np.testing.assert_array_equal(products[0], every)
    np.testing.assert_array_equal(products[:, 0], every)
    assert (np.sort(products, axis=0) == every[:, None]).all() and (np.sort(products, axis=1) == every).all()
    a, b, c = np.random.default_rng(0).integers(size, size=(3, 5000))
    np.testing.assert_array_equal(products[products[a, b], c], products[a, products[b, c]])
    assert (products == products.T).all() == (group == "Z60")
    assert not products.flags.writeable


@pytest.mark.parametrize(
    "group, solvable", [("S3", True), ("A4xZ5", True), ("Z60", True), ("S5", False), ("A5", False)]
)
def test_which_groups_are_solvable(group, solvable):
    products, members = table(group), set(range(len(table(group))))
    inverse = (products == 0).argmax(1)
    while True:  # the series of commutator subgroups ends at the identity, or at a group that is its own
        inside = np.array(sorted(members))
        a, b = np.meshgrid(inside, inside)
        smaller = set(products[products[a, b], products[inverse[a], inverse[b]]].ravel().tolist())
        while True:
            some = np.array(sorted(smaller))
            if (grown := smaller | set(products[np.ix_(some, some)].ravel().tolist())) == smaller:
                break
            smaller = grown
        if smaller == members:
            break
        members = smaller
    assert (len(members) == 1) == solvable
    assert solvable or len(members) == 60


def test_following_the_objects_solves_it():
    data = word_problem.generate(np.random.default_rng(0), 50, S5)
    elements = list(itertools.permutations(range(5)))
    answers = np.full_like(data["tokens"], -1)
    for row, answer in zip(data["tokens"].tolist(), answers, strict=True):
        where = list(range(5))
        for t, token in enumerate(row):
            where = [elements[token][place] for place in where]
            answer[t] = elements.index(tuple(where))
    got = word_problem.score(answers, data, S5)
    assert got == {"accuracy": 1.0, "row_accuracy": 1.0, "last_accuracy": 1.0}
    assert (data["targets"] >= 0).sum(1).tolist() == [word_problem.scored(S5)] * 50


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_answers_are_uniform_and_chance_is_theirs(group):
    config = config_of(group)
    data = word_problem.generate(np.random.default_rng(1), 2000, config)
    late = data["targets"][:, 4:]
    counts = np.bincount(late.ravel(), minlength=order(config))
    assert abs(counts / late.size * order(config) - 1).max() < 0.5
    guesses = np.random.default_rng(2).integers(order(config), size=data["tokens"].shape)
    got = word_problem.score(guesses, data, config)["accuracy"]
    assert abs(got - word_problem.chance(config)) < 5 * (word_problem.chance(config) / guesses.size) ** 0.5


def test_score_by_hand():
    targets = np.array([[3, 2, 1, 0], [5, 5, 5, 5]], np.int32)
    got = word_problem.score(np.array([[3, 2, 0, 0], [5, 5, 5, 5]]), {"tokens": targets, "targets": targets}, S5)
    assert got == {"accuracy": 7 / 8, "row_accuracy": 0.5, "last_accuracy": 1.0}


@pytest.mark.parametrize(
    "group, fingerprint", [("S5", "bd4876fc6ef30283"), ("A5", "afdcf66667b7cbe7"), ("A4xZ5", "261c9438e51b34fe")]
)
def test_same_seed_same_rows(group, fingerprint):
    data = word_problem.generate(np.random.default_rng(7), 20, config_of(group))
    found = hashlib.sha256(data["tokens"].astype("<i8").tobytes() + data["targets"].astype("<i8").tobytes())
    assert found.hexdigest()[:16] == fingerprint


def test_describe():
    assert word_problem.describe(config_of("A5")) == {"group": "A5", "length": 12}


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"length": 0}, "length must be positive, got 0"),
        ({"vocab_size": 119}, "S5 needs a vocab_size of at least 120, got 119"),
        ({"vocab_size": 59, "group": "A5"}, "A5 needs a vocab_size of at least 60, got 59"),
    ],
)
def test_impossible_configs(fields, message):
    with pytest.raises(ValueError, match=f"^word_problem: .*{message}"):
        WordProblemConfig(**fields)
