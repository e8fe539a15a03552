"""The step: accumulation, gathered positions, auxiliary losses, dtypes, donation, the mesh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.sharding import make_mesh
from memjax.training.feed import make_place
from memjax.training.setup import prepare
from memjax.training.skeleton import Skeleton, initial_parameters
from memjax.training.step import make_gradients
from tests.training.conftest import MODEL, change, tiny_config

ROWS, LENGTH = 8, 16


@pytest.fixture
def rows():
    return make_rows()


def make_rows():
    """Rows with very different numbers of scored positions, one of them with none."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, MODEL.vocab_size, size=(ROWS, LENGTH)).astype(np.int32)
    scored = rng.random((ROWS, LENGTH)) < np.linspace(0, 0.9, ROWS)[:, None]
    return {
        "tokens": tokens,
        "targets": np.where(scored, np.roll(tokens, 3, 1), -1),
        "segment_ids": np.ones_like(tokens),
    }


@pytest.fixture
def parameters():
    return initial_parameters(MODEL, seed=1)


def gradients(config, parameters, rows, key=None):
    batch = {name: x.reshape(config.accumulate, -1, *x.shape[1:]) for name, x in rows.items()}
    return jax.jit(make_gradients(config, Skeleton.of(config.model)))(parameters, batch, key)


def assert_same(a, b, rtol=1e-5, atol=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b)


def test_micro_batches_equal_one_large_batch(tiny, parameters, rows):
    large, metrics = gradients(tiny, parameters, rows)
    small, split = gradients(change(tiny, accumulate=4), parameters, rows)
    assert_same(large, small)
    assert_same(metrics, split)
    assert metrics["scored"] == (rows["targets"] >= 0).sum()
    counts = (rows["targets"].reshape(4, -1) >= 0).sum(1)
    assert len(set(counts)) == 4  # so a mean of the micro-batches' means would be something else


def test_gathered_positions_change_nothing(tiny, parameters, rows):
    rows["targets"][:, 6:] = -1
    whole = gradients(tiny, parameters, rows)
    positions = np.argsort(rows["targets"] < 0, axis=1, kind="stable")[:, :6].astype(np.int32)
    gathered = {**rows, "targets": np.take_along_axis(rows["targets"], positions, 1), "positions": positions}
    assert_same(whole, gradients(tiny, parameters, gathered))


def test_bits_per_byte_counts_bytes_of_scored_tokens(tiny, parameters, rows):
    rows = {**rows, "bytes": np.full_like(rows["tokens"], 2)}
    metrics = gradients(tiny, parameters, rows)[1]
    np.testing.assert_allclose(metrics["bits_per_byte"], metrics["loss"] / np.log(2) / 2, rtol=1e-5)


def test_auxiliary_losses_are_averaged_over_micro_batches_and_added(tiny, parameters, rows, monkeypatch):
    hidden = Skeleton.of(MODEL).model(parameters).hidden  # bound to a model that the step does not use

    def with_aux(self, *arguments, **options):
        out = type(self).plain(self, *arguments, **options)
        return out._replace(
            aux={"loss/extra": jnp.sum(self.final_norm.scale[...] ** 2), "metric/seen": jnp.asarray(3.0)}
        )

    kind = type(hidden.__self__)
    plain = gradients(tiny, parameters, rows)[0]
    monkeypatch.setattr(kind, "plain", kind.hidden, raising=False)
    monkeypatch.setattr(kind, "hidden", with_aux)
    for accumulate in (1, 4):
        added, metrics = gradients(change(tiny, accumulate=accumulate), parameters, rows)
        assert_same(added["final_norm/scale"] - plain["final_norm/scale"], 2 * parameters["final_norm/scale"])
        assert_same((metrics["loss/extra"], metrics["metric/seen"]), (parameters["final_norm/scale"].size, 3.0))


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters(tiny, rows):
    config = change(tiny, compute_dtype="bfloat16")
    mesh = make_mesh()
    with jax.set_mesh(mesh):
        setup = prepare(config, mesh)
        text = setup.step.lower(setup.abstract, make_place(mesh, 1, None)(rows)).as_text()
        state, metrics = setup.step(setup.initial(), make_place(mesh, 1, None)(rows))
    assert all(x.dtype == jnp.float32 for x in state.parameters.values())
    assert metrics["loss"].dtype == jnp.float32 and "dot_general" in text
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert sum("bf16" in line for line in products) > len(products) / 2


def test_a_step_donates_its_state_and_counts(tiny, rows):
    mesh = make_mesh()
    with jax.set_mesh(mesh):
        setup = prepare(tiny, mesh)
        before = setup.initial()
        after, metrics = setup.step(before, make_place(mesh, 1, None)(rows))
    assert all(x.is_deleted() for x in jax.tree.leaves((before.parameters, before.optimizer)))
    assert int(after.step) == 1
    norm = np.sqrt(np.asarray(metrics["gradient_squares"]).sum())
    np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-6)
    assert metrics["gradient_squares"].shape == (len(setup.skeleton.abstract),)


@functools.cache
def losses(**sizes):
    """Losses of a few steps on a mesh of these sizes, and the layout of one matrix."""
    config = change(tiny_config("unused"), **{"optimizer.learning_rate": 0.05, "optimizer.warmup_steps": 0})
    mesh = make_mesh(**sizes)
    with jax.set_mesh(mesh):
        setup, found = prepare(config, mesh), []
        state, place = setup.initial(), make_place(mesh, config.accumulate, None)
        for _ in range(4):
            state, metrics = setup.step(state, place(make_rows()))
            found.append(float(metrics["loss"]))
    return found, state.parameters["blocks/0/mixer/query/kernel"].sharding


@pytest.mark.parametrize(
    "sizes", [*(pytest.param(s, marks=pytest.mark.slow) for s in ({"data": 8}, {"fsdp": 8})), {"data": 2, "fsdp": 4}]
)
def test_eight_devices_have_the_losses_of_one(sizes):
    if jax.device_count() < 8:
        pytest.skip("needs 8 devices; CPUs are split into 8 by tests/conftest.py")
    alone, _ = losses()
    together, sharding = losses(**sizes)
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    assert alone[-1] < alone[0] - 0.05  # the losses move, so that equality says something
    assert sharding.is_fully_replicated == ("fsdp" not in sizes)
