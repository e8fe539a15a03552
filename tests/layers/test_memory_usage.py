"""Usage of a table against dense histograms in float64."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.layers.memory_usage import usage

NAMES = {"used", "used_ceiling", "kl", "kl_weighted", "gini", "mass_50", "mass_90", "mass_99"}


def dense(indices, weights, rows):
    """The metrics of one head from its reads [n], with histograms of all rows."""
    valid = (indices >= 0) & (indices < rows)
    counts, masses = np.zeros(rows), np.zeros(rows)
    np.add.at(counts, indices[valid], 1)
    np.add.at(masses, indices[valid], np.abs(weights[valid].astype(np.float64)))
    p, q = counts / max(counts.sum(), 1), masses / (masses.sum() or 1)
    ascending, held = np.sort(p), np.cumsum(np.sort(q)[::-1])
    divergence = lambda x: math.log(rows) + sum(value * math.log(value) for value in x if value > 0) if x.any() else 0.0
    gini = sum((2 * i - rows - 1) * x for i, x in enumerate(ascending, 1)) / rows
    return {
        "used": np.mean(counts > 0),
        "used_ceiling": 1 - (1 - 1 / rows) ** counts.sum(),
        "kl": divergence(p),
        "kl_weighted": divergence(q),
        "gini": gini,
        **{
            f"mass_{percent}": (np.searchsorted(held, percent / 100 - 1e-12) + 1) / rows if q.any() else 0.0
            for percent in (50, 90, 99)
        },
    }


def by_head(metrics, head):
    prefix = f"head{head}/"
    return {name.removeprefix(prefix): float(value) for name, value in metrics.items() if name.startswith(prefix)}


@functools.partial(jax.jit, static_argnums=2)
def jitted(indices, weights, rows, mask):
    return usage(indices, weights, rows, mask=mask)


@pytest.mark.parametrize("rows", [50, 100_000])
def test_every_head_has_the_metrics_of_its_histograms(rng, rows):
    shape = (4, 16, 3, 8)
    indices = np.minimum(rng.zipf(1.3, size=shape), 2 * rows)  # many ties, and rows beyond the table
    indices[..., 1, :] = rng.integers(-3, 40, size=shape[:2] + shape[3:])  # negative numbers, which count for nothing
    indices[..., 2, :] = 7  # all of one row
    weights = (rng.normal(size=shape) * rng.integers(0, 3, size=shape)).astype(np.float32)
    mask = rng.random(shape[:2]) < 0.8
    found = jitted(jnp.asarray(indices, jnp.int32), jnp.asarray(weights), rows, jnp.asarray(mask))
    assert set(found) == {f"head{h}/{name}" for h in range(3) for name in NAMES}
    for head in range(3):
        expected = dense(indices[mask][:, head].ravel(), weights[mask][:, head].ravel(), rows)
        for name, value in by_head(found, head).items():
            assert value == pytest.approx(expected[name], rel=2e-5, abs=2e-6), f"head {head}, {name}"


def test_the_ends_of_the_scales():
    rows = 16
    indices = jnp.stack([jnp.arange(32) % rows, jnp.full(32, 3)], axis=1)[..., None]
    found = jitted(indices, jnp.full((32, 2, 1), -0.25), rows, jnp.ones(32, bool))
    ceiling = pytest.approx(1 - (15 / 16) ** 32, rel=1e-5)
    even = {"used": 1, "used_ceiling": ceiling, "kl": 0, "kl_weighted": 0, "gini": pytest.approx(0, abs=1e-6)}
    assert by_head(found, 0) == even | {"mass_50": 0.5, "mass_90": 15 / 16, "mass_99": 1}
    log = pytest.approx(math.log(16))
    single = {"used": 1 / 16, "used_ceiling": ceiling, "kl": log, "kl_weighted": log, "gini": 15 / 16}
    assert by_head(found, 1) == single | dict.fromkeys(("mass_50", "mass_90", "mass_99"), 1 / 16)


def test_without_reads_or_weights_all_is_zero_and_finite():
    indices = jnp.stack([jnp.where(jnp.arange(32) % 2, -1, 16), jnp.full(32, 3)], axis=1)[..., None]
    found = jitted(indices, jnp.zeros((32, 2, 1)), 16, jnp.ones(32, bool))
    assert by_head(found, 0) == dict.fromkeys(NAMES, 0.0)
    unweighted = by_head(found, 1)
    assert unweighted["used"] == 1 / 16
    assert [unweighted[name] for name in ("kl_weighted", "mass_50", "mass_90", "mass_99")] == [0, 0, 0, 0]
    nothing = jitted(jnp.zeros((0, 2, 1), jnp.int32), jnp.zeros((0, 2, 1)), 16, jnp.ones(0, bool))
    assert by_head(nothing, 1) == dict.fromkeys(NAMES, 0.0)
    masked = jitted(indices, jnp.ones((32, 2, 1)), 16, jnp.zeros(32, bool))
    assert by_head(masked, 1) == dict.fromkeys(NAMES, 0.0)


def test_a_table_of_one_row_and_no_gradient():
    def total(weights):
        found = usage(jnp.zeros((3, 1, 2), jnp.int32), weights, 1)
        return sum(found.values()), found

    gradient, found = jax.jit(jax.grad(total, has_aux=True))(jnp.arange(1.0, 7.0).reshape(3, 1, 2))
    assert not gradient.any()
    ones = {"used", "used_ceiling", "mass_50", "mass_90", "mass_99"}
    assert by_head(found, 0) == {name: float(name in ones) for name in NAMES}


def test_many_reads_are_counted_to_the_last():
    """A running float32 sum of so many weights is off by 1e-4."""
    reads = 10**5
    indices = jnp.concatenate([jnp.zeros(reads, jnp.int32), jnp.full(reads // 4, 5)])[:, None, None]
    found = by_head(jitted(indices, jnp.full(indices.shape, 0.1), 8, jnp.ones(len(indices), bool)), 0)
    expected = math.log(8) + 0.8 * math.log(0.8) + 0.2 * math.log(0.2)
    assert found["kl"] == pytest.approx(expected, rel=2e-6)
    assert found["kl_weighted"] == pytest.approx(expected, rel=2e-6)
    assert (found["mass_50"], found["mass_90"]) == (1 / 8, 2 / 8)


def test_cost_does_not_depend_on_the_table():
    """No array of the program has its length."""
    indices, weights = jax.ShapeDtypeStruct((64, 2, 4), jnp.int32), jax.ShapeDtypeStruct((64, 2, 4), jnp.float32)
    program = jax.jit(lambda *x: usage(*x, 1_000_003)).lower(indices, weights).as_text()
    assert "1000003" in program and not re.search(r"[<x]1000003x", program)


@pytest.mark.parametrize("shape", [(3, 2, 0), (3, 0, 4), (3, 2, 4)])
def test_what_has_no_metrics_is_refused(shape):
    rows = 0 if all(shape) else 9
    with pytest.raises(ValueError, match="usage: "):
        usage(jnp.zeros(shape, jnp.int32), jnp.zeros(shape), rows)
