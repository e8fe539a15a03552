"""Tables trained by the rows that a step reads: the gradient, the update, the mesh, and what it all costs."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from memjax.config import TableOptimizerConfig
from memjax.mixers import MemoryPlusConfig, PeerConfig, UltraMemConfig
from memjax.models import BlockConfig
from memjax.sharding import make_mesh
from memjax.training import fit
from memjax.training.finite import NonFiniteError
from memjax.training.row_optimizers import Rows
from memjax.training.setup import prepare
from memjax.training.skeleton import Skeleton, initial_parameters
from memjax.training.step import make_gradients
from memjax.training.touched_rows import is_table
from memjax.training.update import Optimizer
from tests.tolerances import assert_close
from tests.training.conftest import MODEL, RunningMeanConfig, change, tiny_config

SMALL = {"heads": 1, "topk": 2, "subkeys": 16, "key_dim": 4, "usage": False}
SHARED = MemoryPlusConfig(share="facts", **SMALL)
BLOCKS = (
    BlockConfig(RunningMeanConfig(), SHARED, PeerConfig(**SMALL)),
    BlockConfig(RunningMeanConfig(), dataclasses.replace(SHARED, topk=1)),  # a shorter bag on the same table
    BlockConfig(RunningMeanConfig(), UltraMemConfig(expansion=2, value_dim=4, pre_dim=2, **SMALL)),
)
ALL = dataclasses.replace(MODEL, blocks=BLOCKS, repeats=2)
TABLES = {"tables/facts/values", "blocks/0/memory/table/down", "blocks/0/memory/table/up"}
MORE = {f"blocks/2/mlp/table/{name}" for name in ("pre", "values0", "values1")}
SOME = dataclasses.replace(MODEL, blocks=BLOCKS[:1], repeats=2)


def tabled(tmp_path, model=SOME, **changes):
    return change(tiny_config(tmp_path / "run"), model=model, **changes)


def batch_of(parts: int, rows: int = 8):
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, MODEL.vocab_size, size=(parts, rows // parts, 16)).astype(np.int32)
    return {"tokens": tokens, "targets": np.roll(tokens, 3, 2), "segment_ids": np.ones_like(tokens)}


def dense(gradient: Rows, shape) -> np.ndarray:
    """The array that the rows are a part of."""
    found, rows = np.zeros(shape), np.asarray(gradient.rows)
    found = found.reshape(-1, *shape[-2:])
    for table, at, values in zip(found, rows.reshape(len(found), -1), np.asarray(gradient.values).reshape(
        len(found), -1, shape[-1]), strict=True):  # fmt: skip
        there = at < shape[-2]
        assert np.all(np.diff(at[there]) > 0) and not values[~there].any()
        table[at[there]] = values[there]
    return found.reshape(shape)


@pytest.mark.slow
def test_gradients_on_the_rows_read_are_all_of_the_gradient(tmp_path):
    """Of tables that layers share and that a stack of layers owns, in micro-batches."""
    config, tables = tabled(tmp_path, ALL, accumulate=2), TABLES | MORE
    skeleton, parameters = Skeleton.of(ALL), jax.jit(lambda: initial_parameters(ALL, seed=1))()
    assert {name for name in parameters if is_table(name)} == tables
    whole, metrics = jax.jit(make_gradients(config, skeleton))(parameters, batch_of(2), None)
    by_rows, same = jax.jit(make_gradients(config, skeleton, sorted(tables)))(parameters, batch_of(2), None)
    assert_close(same, metrics)
    for name, gradient in by_rows.items():
        if name in tables:
            assert isinstance(gradient, Rows) and gradient.rows.shape[-1] <= parameters[name].shape[-2]
            gradient = dense(gradient, parameters[name].shape)
        assert_close(gradient, whole[name], dtype="float32", gradient=True)


@functools.cache
def one_step(mesh_sizes=(), **table):
    config = change(tiny_config("unused"), model=SOME)
    config = change(config, optimizer=dataclasses.replace(config.optimizer, table=TableOptimizerConfig(**table)))
    mesh = make_mesh(**dict(mesh_sizes))
    with jax.set_mesh(mesh):
        setup = prepare(config, mesh)
        state = setup.initial()
        before = jax.device_get(state.parameters)
        for _ in range(2):
            state, metrics = setup.step(state, batch_of(1))
        return before, jax.device_get(state), jax.device_get(metrics)


def test_rows_that_are_not_read_stay_bit_by_bit():
    before, after, metrics = one_step(name="adam")
    touched = 0
    for name in TABLES:
        moved = (before[name] != after.parameters[name]).any(-1)
        touched += moved.sum()
        assert 0 < moved.mean() < 1, name
        slots = after.optimizer.table[1]
        assert not slots.mu[name][~moved].any() and not slots.nu[name][~moved].any()
    assert touched >= metrics["table_rows"] > 0  # of the last of two steps


@pytest.mark.slow
def test_eight_devices_take_the_step_of_one():
    _, one, metrics = one_step(name="adam")
    _, eight, same = one_step((("data", 2), ("fsdp", 2), ("tensor", 2)), name="adam")
    assert_close(eight.parameters, one.parameters, factor=10)  # two steps of Adam, whose directions are quotients
    assert_close(same["loss"], metrics["loss"])
    assert same["table_rows"] == metrics["table_rows"]


def test_dense_means_the_main_optimizer_as_for_any_parameter(tmp_path):
    config = tabled(tmp_path)
    by_rows = dataclasses.replace(config.optimizer, table=TableOptimizerConfig(name="dense"))
    assert set(Optimizer(config, Skeleton.of(SOME)).tables) == TABLES
    assert Optimizer(change(config, optimizer=by_rows), Skeleton.of(SOME)).tables == ()


@pytest.mark.slow
def test_a_run_that_was_cut_off_ends_in_the_same_numbers(tmp_path):
    whole = fit(tabled(tmp_path / "whole", steps=4), say=str)
    fit(tabled(tmp_path / "cut", steps=2, optimizer=dataclasses.replace(
        tiny_config("unused").optimizer, schedule_steps=4)), say=str)  # fmt: skip
    cut = fit(tabled(tmp_path / "cut", steps=4), say=str)
    assert cut.step == whole.step == 4
    for a, b in zip(jax.tree.leaves(whole.model), jax.tree.leaves(cut.model), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_step_memory_does_not_grow_with_the_table():
    """No array as large as the table beside the table and its slots, which are updated in place."""

    def temporary(subkeys):
        layer = MemoryPlusConfig(heads=1, topk=2, subkeys=subkeys, key_dim=2, value_dim=128, usage=False)
        blocks = (BlockConfig(RunningMeanConfig(), layer),)
        config = change(tiny_config("unused"), model=dataclasses.replace(MODEL, blocks=blocks, repeats=2))
        mesh = make_mesh()
        setup = prepare(config, mesh)
        batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch_of(1))
        return setup.step.lower(setup.abstract, batch).compile().memory_analysis().temp_size_in_bytes

    small, large = temporary(32), temporary(256)
    table = 2 * 256**2 * 128 * 4
    assert large < table / 8
    assert large - small < table / 16  # scores of more sub-keys, and more rows to touch


def test_a_bad_gradient_of_a_table_is_named(tmp_path):
    """Found by the squares, where the norm of all other gradients is finite."""
    from memjax.training.finite import check_step

    with pytest.raises(NonFiniteError, match="tables/facts/values"):
        check_step(3, 1.0, 1.0, np.array([1.0, np.nan]), ["embed/table", "tables/facts/values"])
