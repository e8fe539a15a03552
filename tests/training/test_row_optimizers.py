"""Row-wise optimizers against dense ones where every row is read, against numpy where few are, and what they leave."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from memjax.config import OptimizerConfig, TableOptimizerConfig
from memjax.training import row_optimizers
from memjax.training.row_optimizers import Rows

SHAPES = {"plain/table": (9, 4), "stack/table": (2, 7, 4)}
RATE, B1, B2, EPS = 0.1, 0.9, 0.95, 1e-8


def optimizer(name, **changes):
    fields: Any = {"name": name, "learning_rate": RATE, "schedule": "constant", "warmup_steps": 0, "clip": None}
    table = dataclasses.replace(TableOptimizerConfig(**fields), b1=B1, b2=B2, eps=EPS, **changes)
    return row_optimizers.build(OptimizerConfig(table=table), steps=10)


def step(chain):
    """tables, slots, gradients -> tables, slots"""

    def run(tables, slots, gradients):
        updates, slots = chain.update(gradients, slots, tables)
        return row_optimizers.apply_rows(tables, updates), slots

    return run


def some_rows(rng, shape, n, padding):
    """`n` different rows of each table of the stack, ascending, then `padding` places."""
    *stack, size, width = shape
    rows = np.sort(rng.permuted(np.tile(np.arange(size), (*stack, 1)), axis=-1)[..., :n], axis=-1)
    rows = np.concatenate([rows, np.full((*stack, padding), size)], axis=-1)
    values = rng.normal(size=(*stack, n + padding, width)) * (rows < size)[..., None]
    return Rows(jnp.asarray(rows, jnp.int32), jnp.asarray(values, jnp.float32))


def dense(update, shape):
    """The gradient [*stack, M, V] and which rows are listed [*stack, M], in float64."""
    gradient, listed = np.zeros(shape), np.zeros(shape[:-1], bool)
    rows, values = np.asarray(update.rows), np.asarray(update.values)
    for place in np.ndindex(rows.shape):
        where = (*place[:-1], rows[place])
        if where[-1] < shape[-2]:
            gradient[where], listed[where] = values[place], True
    return gradient, listed


def reference(name, table, updates):
    """A table after all updates, by the equations, float64."""
    table, first, second, sums = (np.array(x, np.float64) for x in (table, 0 * table, 0 * table, 0 * table[..., :1]))
    for t, update in enumerate(updates, 1):
        g, listed = dense(update, table.shape)
        touched = listed[..., None]
        first = np.where(touched, B1 * first + (1 - B1) * g, first)
        second = np.where(touched, B2 * second + (1 - B2) * g**2, second)
        sums = np.where(touched, sums + np.mean(g**2, axis=-1, keepdims=True), sums)
        with np.errstate(invalid="ignore"):
            direction = {
                "adam": first / (1 - B1**t) / (np.sqrt(second / (1 - B2**t)) + EPS),
                "adagrad": g / (np.sqrt(sums) + EPS),
                "sgd": g,
            }[name]
        table = np.where(touched, table - RATE * direction, table)
    return table


@pytest.fixture
def tables(rng):
    return {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in SHAPES.items()}


@pytest.mark.slow
def test_adam_on_all_rows_is_that_of_optax(rng, tables):
    chain, adam = optimizer("adam"), optax.adam(RATE, b1=B1, b2=B2, eps=EPS)
    run, run_dense, dense_tables = jax.jit(step(chain)), jax.jit(adam.update), tables
    slots, dense_slots = chain.init(tables), adam.init(tables)
    for _ in range(3):
        gradients = {name: some_rows(rng, shape, shape[-2], 1) for name, shape in SHAPES.items()}
        tables, slots = run(tables, slots, gradients)
        update, dense_slots = run_dense({name: g.values[..., :-1, :] for name, g in gradients.items()}, dense_slots)
        dense_tables: Any = optax.apply_updates(dense_tables, update)
    for name in SHAPES:
        np.testing.assert_allclose(tables[name], dense_tables[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["adam", "adagrad", "sgd"])
def test_touched_rows_follow_the_equations_and_others_stay_bit_by_bit(rng, tables, name):
    chain, start = optimizer(name), tables
    slots = chain.init(tables)
    run, history = jax.jit(step(chain)), []
    for _ in range(4):
        history.append({name: some_rows(rng, shape, 3, 2) for name, shape in SHAPES.items()})
        before, (tables, slots) = (tables, slots), run(tables, slots, history[-1])
        for path, shape in SHAPES.items():
            _, listed = dense(history[-1][path], shape)
            leaves = [(tree[0][path], *slots_of(tree[1], path)) for tree in (before, (tables, slots))]
            for old, new in zip(*leaves, strict=True):
                np.testing.assert_array_equal(np.asarray(old)[~listed], np.asarray(new)[~listed])
                assert (np.asarray(old)[listed] != np.asarray(new)[listed]).all()
    for path in SHAPES:
        expected = reference(name, start[path], [updates[path] for updates in history])
        np.testing.assert_allclose(tables[path], expected, rtol=2e-6, atol=2e-6)


def slots_of(state, path):
    """The slots of one table, float32 and of its shape but for the last axis."""
    flat = jax.tree_util.tree_leaves_with_path(state)
    found = [leaf for keys, leaf in flat if any(getattr(key, "key", None) == path for key in keys)]
    assert all(x.dtype == jnp.float32 and x.shape[:-1] == SHAPES[path][:-1] for x in found)
    return found


def test_a_listed_row_without_gradient_moves_on_by_what_is_left_of_its_moments(tables):
    chain, path = optimizer("adam"), "plain/table"
    run, slots = jax.jit(step(chain)), chain.init({path: tables[path]})
    ones = Rows(jnp.array([2, 5]), jnp.ones((2, 4)))
    first, slots = run({path: tables[path]}, slots, {path: ones})
    second, slots = run(first, slots, {path: Rows(ones.rows, 0 * ones.values)})
    assert (np.asarray(second[path])[[2, 5]] < np.asarray(first[path])[[2, 5]]).all()
    np.testing.assert_allclose(slots[1].mu[path][5], np.full(4, B1 * (1 - B1)), rtol=1e-6)


@pytest.mark.parametrize("name", ["adam", "adagrad"])
def test_a_narrow_table_has_wide_slots_and_is_rounded_once(name):
    chain, path = optimizer(name), "plain/table"
    table = jnp.linspace(1.0, 1.7, 36, dtype=jnp.bfloat16).reshape(9, 4)
    rows = Rows(jnp.array([0, 8, 9]), jnp.tile(jnp.array([[0.1], [-3.0], [0.0]]), 4))
    slots = chain.init({path: table})
    run = jax.jit(chain.update)
    updates, slots = run({path: rows}, run({path: rows}, slots)[1])
    assert not updates[path].values[2].any(), "padding stays zero"
    assert updates[path].values.dtype == jnp.float32 and len(slots_of(slots, path)) == {"adam": 2, "adagrad": 1}[name]
    change = jnp.tile(jnp.array([[0.003], [0.0039], [0.0]]), 4)
    new = row_optimizers.apply_rows({path: table, "other": table}, {path: Rows(rows.rows, change)})
    expected = np.array(table, np.float32)
    expected[np.asarray(rows.rows[:2])] += change[:2]
    assert new[path].dtype == jnp.bfloat16
    np.testing.assert_array_equal(new[path], jnp.asarray(expected, jnp.bfloat16))
    assert new["other"] is table


def test_the_clip_is_that_of_the_dense_gradient(rng):
    gradients = {name: some_rows(rng, shape, 4, 2) for name, shape in SHAPES.items()}
    whole = {name: jnp.asarray(dense(g, SHAPES[name])[0], jnp.float32) for name, g in gradients.items()}
    norm = float(optax.tree.norm(whole))
    np.testing.assert_allclose(row_optimizers.global_norm(gradients), norm, rtol=1e-6)
    for limit in (0.5 * norm, 2 * norm, None):
        chain = row_optimizers.clip_rows(limit)
        clipped, _ = jax.jit(chain.update)(gradients, chain.init(whole))
        scale = 0.5 if limit == 0.5 * norm else 1.0
        for name, g in gradients.items():
            np.testing.assert_array_equal(clipped[name].rows, g.rows)
            np.testing.assert_allclose(clipped[name].values, scale * g.values, rtol=1e-6)


def test_the_learning_rate_counts_updates():
    chain = row_optimizers.scale_rows_by_learning_rate(lambda count: 10.0 ** -jnp.asarray(count, jnp.float32))
    gradients = {"t": Rows(jnp.array([1]), jnp.ones((1, 2)))}
    state = chain.init({"t": jnp.zeros((3, 2))})
    for expected in (-1.0, -0.1):
        updates, state = chain.update(gradients, state)
        np.testing.assert_allclose(updates["t"].values, expected * np.ones((1, 2)), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adam", "adagrad"])
def test_memory_beside_the_donated_tables_does_not_grow_with_them(name):
    chain, used = optimizer(name, clip=1.0), []
    for size in (4096, 16384):
        abstract = {"stack/table": jax.ShapeDtypeStruct((2, size, 8), jnp.float32)}
        rows = Rows(jax.ShapeDtypeStruct((2, 16), jnp.int32), jax.ShapeDtypeStruct((2, 16, 8), jnp.float32))
        slots = jax.eval_shape(chain.init, abstract)
        program = jax.jit(step(chain), donate_argnums=(0, 1)).lower(abstract, slots, {"stack/table": rows}).compile()
        memory: Any = program.memory_analysis()
        state = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((abstract, slots)))
        assert memory.alias_size_in_bytes == state
        used.append(memory.temp_size_in_bytes)
    assert used[0] == used[1] < 64 * 1024


def test_what_has_no_row_optimizer_is_refused():
    with pytest.raises(ValueError, match=r"optimizer\.table\.name: 'dense'"):
        optimizer("dense")
    for make in (row_optimizers.scale_by_row_adam, row_optimizers.scale_by_row_adagrad):
        with pytest.raises(ValueError, match="eps: 0"):
            make(eps=0.0)
    with pytest.raises(ValueError, match="initial: -1"):
        row_optimizers.scale_by_row_adagrad(initial=-1.0)
