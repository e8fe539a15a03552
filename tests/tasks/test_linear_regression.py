"""In-context linear regression: least squares on the row's own examples, and what is refused."""

import numpy as np
import pytest

from memjax.tasks import CONTINUOUS, TASKS
from memjax.tasks.linear_regression import LinearRegressionConfig, describe, generate, score

CONFIG = LinearRegressionConfig(dimension=4, points=9)


def least_squares(rows):
    """The answer at each x from the examples before it: the solution of smallest norm."""
    predictions = np.zeros(rows["outputs"].shape)
    for inputs, answer in zip(rows["inputs"].astype(np.float64), predictions, strict=True):
        for t in range(2, len(inputs), 2):
            weights = np.linalg.lstsq(inputs[0:t:2], inputs[1:t:2, 0], rcond=1e-6)[0]
            answer[t] = inputs[t] @ weights
    return predictions


def test_it_is_listed_as_continuous_only():
    assert "linear_regression" in CONTINUOUS and "linear_regression" not in TASKS


def test_rows_are_linear_and_y_follows_its_x():
    rows = generate(np.random.default_rng(0), 50, CONFIG)
    assert {name: (x.dtype, x.shape) for name, x in rows.items()} == {
        "inputs": (np.float32, (50, 18, 4)),
        "outputs": (np.float32, (50, 18, 1)),
        "mask": (np.float32, (50, 18)),
    }
    assert (CONFIG.features, CONFIG.outputs) == (4, 1)
    np.testing.assert_array_equal(rows["inputs"][:, 1::2, 0], rows["outputs"][:, 0::2, 0])
    assert (rows["inputs"][:, 1::2, 1:] == 0).all() and (rows["outputs"][:, 1::2] == 0).all()
    assert (rows["mask"] == (np.arange(18) % 2 == 0)).all()
    x, y = rows["inputs"][:, 0::2].astype(np.float64), rows["outputs"][:, 0::2, 0]
    weights = np.linalg.pinv(x) @ y[..., None]
    np.testing.assert_allclose((x @ weights)[..., 0], y, atol=1e-4)
    assert abs(weights.std() - 1) < 0.1 and abs(x.std() - 1) < 0.1


def test_least_squares_solves_what_is_determined_and_errs_by_the_dimensions_left():
    rows = generate(np.random.default_rng(1), 400, CONFIG)
    predictions = least_squares(rows)
    assert score(predictions, rows, CONFIG)["determined_mse"] < 1e-4
    errors = np.square(predictions - rows["outputs"])[:, 0:8:2, 0].mean(0)
    np.testing.assert_allclose(errors, [4, 3, 2, 1], rtol=0.3)
    zero = score(np.zeros_like(predictions), rows, CONFIG)
    np.testing.assert_allclose(zero["relative_mse"], 1, rtol=0.2)


def test_dimensions_that_are_not_active_are_zero():
    config = LinearRegressionConfig(dimension=4, points=6, active=2)
    rows = generate(np.random.default_rng(2), 200, config)
    x = rows["inputs"][:, 0::2]
    assert (x[..., 2:] == 0).all() and (x[..., :2] != 0).all()
    assert score(least_squares(rows), rows, config)["determined_mse"] < 1e-4
    np.testing.assert_allclose(score(np.zeros_like(rows["outputs"]), rows, config)["relative_mse"], 1, rtol=0.2)


def test_score_by_hand():
    config = LinearRegressionConfig(dimension=2, points=3)
    rows = generate(np.random.default_rng(0), 1, config)
    wrong = rows["outputs"] + np.array([1, 9, 2, 9, 3, 9])[None, :, None]
    got = score(wrong, rows, config)
    assert got == pytest.approx({"mse": 14 / 3, "relative_mse": 7 / 3, "determined_mse": 9}, rel=1e-5)
    short = LinearRegressionConfig(dimension=3, points=3)
    rows = generate(np.random.default_rng(0), 1, short)
    assert score(rows["outputs"], rows, short) == {"mse": 0.0, "relative_mse": 0.0}


def test_the_same_seed_gives_the_same_rows():
    first, again, other = (generate(np.random.default_rng(seed), 5, CONFIG) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first["inputs"], again["inputs"])
    assert not np.array_equal(first["inputs"], other["inputs"])
    np.testing.assert_allclose(first["inputs"][0, 0], [-1.841735, -0.23509113, -1.2674465, 0.27126434], rtol=1e-6)
    np.testing.assert_allclose(first["outputs"].sum(dtype=np.float64), 7.7256768, rtol=1e-6)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"dimension": 0}, "dimension must be positive, got 0"),
        ({"points": 0}, "points must be positive, got 0"),
        ({"active": 0}, "active 0"),
        ({"active": 21}, "active 21 does not lie between 1 and dimension 20"),
    ],
)
def test_impossible_configs(fields, message):
    with pytest.raises(ValueError, match=f"^linear_regression: {message}"):
        LinearRegressionConfig(**fields)


def test_describe():
    assert describe(CONFIG) == {"dimension": 4, "points": 9}
    assert describe(LinearRegressionConfig(active=5)) == {"dimension": 20, "points": 41, "active": 5}
