"""The linear functional: its kernels, an oracle, and the same rows for the same seed."""

import numpy as np
import pytest

from memjax.tasks import CONTINUOUS, TASKS
from memjax.tasks.linear_functional import Config, describe, generate, rho, score

SMALL = Config(length=12)


def test_it_is_listed_as_continuous_only():
    assert "linear_functional" in CONTINUOUS and "linear_functional" not in TASKS


def test_rho_by_hand():
    np.testing.assert_allclose(rho(SMALL)[[0, 10]], [1, 2**-1.1])
    np.testing.assert_allclose(rho(Config(length=12, memory="exponential"))[[0, 10]], [1, np.exp(-1)])
    np.testing.assert_array_equal(rho(Config(length=4, memory="shift", delay=2)), [0, 0, 1, 0])


@pytest.mark.parametrize("memory", ["polynomial", "exponential", "shift"])
def test_outputs_are_the_convolution_with_rho(rng, memory):
    config = Config(length=40, memory=memory, delay=7)
    rows = generate(rng, 3, config)
    assert {name: (x.dtype, x.shape) for name, x in rows.items()} == {
        "inputs": (np.float32, (3, 40, 1)),
        "outputs": (np.float32, (3, 40, 1)),
        "mask": (np.float32, (3, 40)),
    }
    weights = [[rho(config)[t - s] if s <= t else 0 for s in range(40)] for t in range(40)]
    np.testing.assert_allclose(rows["outputs"], np.array(weights) @ rows["inputs"], rtol=1e-5, atol=1e-6)
    assert abs(rows["inputs"].std() - 1) < 0.2


def test_the_same_seed_gives_the_same_rows():
    first, again, other = (generate(np.random.default_rng(seed), 5, SMALL) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first["outputs"], again["outputs"])
    assert not np.array_equal(first["outputs"], other["outputs"])


def test_score_of_the_oracle_of_zero_and_of_what_is_masked(rng):
    rows = generate(rng, 50, SMALL)
    assert score(rows["outputs"], rows, SMALL) == {"mse": 0.0, "relative_mse": 0.0}
    assert score(np.zeros_like(rows["outputs"]), rows, SMALL)["relative_mse"] == 1.0
    half = rows | {"mask": rows["mask"] * (np.arange(12) < 6)}
    wrong_later = rows["outputs"] + (np.arange(12) >= 6)[:, None]
    assert score(wrong_later, half, SMALL)["mse"] == 0.0
    assert score(wrong_later, rows, SMALL)["mse"] == pytest.approx(0.5, rel=1e-5)


def test_impossible_functionals_are_refused_and_the_axes_named():
    for values, words in (
        ({"length": 0}, "length"),
        ({"rate": 0.0}, "rate"),
        ({"memory": "shift", "delay": 100}, "delay 100"),
    ):
        with pytest.raises(ValueError, match=words):
            Config(**values)
    assert describe(SMALL) == {"memory": "polynomial", "length": 12}
