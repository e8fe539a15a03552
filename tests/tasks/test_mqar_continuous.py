"""Continuous MQAR: the nearest key solves it, a sum of outer products only in part, and what is refused."""

import numpy as np
import pytest

from memjax.tasks import CONTINUOUS, TASKS, mqar_continuous
from memjax.tasks.mqar_continuous import ContinuousMQARConfig, describe, generate, score

CONFIG = ContinuousMQARConfig(pairs=6, key_size=8, value_size=3)


def answers(rows, weigh):
    """Values of the context, weighted by what `weigh` makes of the products of questions and keys."""
    context, asked = rows["inputs"][:, :6], rows["inputs"][:, 6:]
    found = weigh(asked[..., :8] @ context[..., :8].transpose(0, 2, 1)) @ context[..., 8:]
    return np.concatenate([np.zeros_like(found), found], axis=1)


def nearest(products):
    return np.eye(6)[products.argmax(-1)]


def test_it_is_listed_as_continuous_only():
    assert "mqar_continuous" in CONTINUOUS and "mqar_continuous" not in TASKS


def test_shapes_and_what_is_where():
    rows = generate(np.random.default_rng(0), 50, CONFIG)
    shapes = {name: (x.dtype, x.shape) for name, x in rows.items()}
    assert shapes == {
        "inputs": (np.float32, (50, 12, 11)),
        "outputs": (np.float32, (50, 12, 3)),
        "mask": (np.float32, (50, 12)),
    }
    assert (CONFIG.features, CONFIG.outputs, CONFIG.vocab_size) == (11, 3, 0)
    assert (rows["mask"] == (np.arange(12) >= 6)).all()
    assert (rows["inputs"][:, 6:, 8:] == 0).all(), "no value stands beside a question"
    np.testing.assert_allclose(np.square(rows["inputs"][..., :8]).sum(-1), 1, rtol=1e-5)
    assert abs(rows["outputs"][:, 6:].std() - 1) < 0.1 and abs(rows["inputs"][..., :8].mean()) < 0.05


def test_the_nearest_key_solves_it_and_every_key_is_asked():
    rows = generate(np.random.default_rng(1), 200, CONFIG)
    assert score(answers(rows, nearest), rows, CONFIG) == {"mse": 0.0, "relative_mse": 0.0, "nearest_accuracy": 1.0}
    sort = lambda values: np.sort(values[..., 0], axis=1)
    np.testing.assert_array_equal(sort(rows["inputs"][:, :6, 8:]), sort(rows["outputs"][:, 6:]))


def test_a_sum_of_outer_products_errs_and_an_answer_of_0_is_1():
    rows = generate(np.random.default_rng(2), 2000, CONFIG)
    linear = score(answers(rows, lambda products: products), rows, CONFIG)
    np.testing.assert_allclose(linear["relative_mse"], 5 / 8, rtol=0.05)  # (pairs - 1) / key_size
    assert 0.5 < linear["nearest_accuracy"] < 0.95
    zero = score(np.zeros_like(rows["outputs"]), rows, CONFIG)
    assert zero["relative_mse"] == 1.0
    guess = score(np.random.default_rng(3).standard_normal(rows["outputs"].shape), rows, CONFIG)
    assert abs(guess["nearest_accuracy"] - 1 / 6) < 0.02


def test_score_by_hand():
    config = ContinuousMQARConfig(pairs=2, key_size=2, value_size=1)
    outputs = np.array([0, 0, 1, 3], np.float32)[None, :, None]
    rows = {"inputs": np.zeros((1, 4, 3), np.float32), "outputs": outputs, "mask": np.ones((1, 4), np.float32)}
    got = score(np.array([9, 9, 2.5, 3])[None, :, None], rows, config)
    assert got == pytest.approx({"mse": 1.125, "relative_mse": 0.225, "nearest_accuracy": 0.5})


def test_the_same_seed_gives_the_same_rows():
    first, again, other = (generate(np.random.default_rng(seed), 5, CONFIG) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first["inputs"], again["inputs"])
    assert not np.array_equal(first["inputs"], other["inputs"])
    np.testing.assert_allclose(
        first["inputs"][0, 0],
        [
            0.00061915815,
            0.15036395,
            -0.13797848,
            -0.44825077,
            -0.22884391,
            -0.49911341,
            0.030271348,
            0.67455423,
            -0.46019381,
            0.74319726,
            -0.082478374,
        ],
        rtol=1e-6,
    )
    np.testing.assert_allclose(first["outputs"].sum(dtype=np.float64), -2.0063143, rtol=1e-6)


@pytest.mark.parametrize("fields", [{"pairs": 0}, {"key_size": 1}, {"value_size": 0}])
def test_impossible_configs(fields):
    name, number = next(iter(fields.items()))
    with pytest.raises(ValueError, match=f"^mqar_continuous: {name} must be at least .*, got {number}"):
        ContinuousMQARConfig(**fields)


def test_describe():
    assert describe(CONFIG) == {"pairs": 6, "key_size": 8, "value_size": CONFIG.value_size}
    assert describe(ContinuousMQARConfig()) == {"pairs": 8, "key_size": 16}
    assert mqar_continuous.Config is ContinuousMQARConfig
