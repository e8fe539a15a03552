"""Optimizers for the tables of memory layers: an update touches the rows that were read and leaves all others alone.

A step of a memory layer reads a few rows of a table that may have millions. Its gradient is `Rows`, a list of row
numbers with a gradient each, and so is the update. The transforms below are those of optax on dictionaries
{path: Rows}, to be chained by `optax.chain`; time and temporary memory grow with the rows listed, not with the table.

A row is touched when it is listed, also where its gradient is exactly zero: its moments decay, and what is left of
them moves it. A row that is not listed keeps its numbers and its slots bit by bit. There is no weight decay, which
would pull at a row only when it is read.

    adam      m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2, on touched rows only;  m' / (sqrt(v') + eps) with
              m' = m / (1 - b1^t), v' = v / (1 - b2^t) and t the number of updates so far, whatever they touched
    adagrad   a <- a + mean(g^2) over the row's V numbers, a single number a row;  g / (sqrt(a) + eps)
    sgd       g

Adam on touched rows is the "lazy Adam" of TensorFlow and the SparseAdam of PyTorch, which count t alike. With t late in
the run a row's first update has the size (1 - b1) / sqrt(1 - b2), in learning rates: 0.45 for (0.9, 0.95), but 3.2 for
(0.9, 0.999). Row-wise Adagrad, four bytes a row, is usual for tables of recommenders (Mudigere et al., 2021,
https://arxiv.org/abs/2104.05158).
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from memjax.config import OptimizerConfig
from memjax.ops import put_rows, take_rows
from memjax.training import optimizers


class Rows(NamedTuple):
    """Gradient or update of a table [*stack, M, V], on n of its rows; `stack` is (), or (R,) for R stacked layers.

    Attributes:
        rows: [*stack, n] int32, ascending and each once; a number >= M is padding and may come several times.
        values: [*stack, n, V] float32, zero at padding.
    """

    rows: Int[Array, "*stack n"]
    values: Float[Array, "*stack n V"]


Tables = dict[str, jax.Array]  # {path: [*stack, M, V]}
Updates = dict[str, Rows]


class RowAdamState(NamedTuple):
    """Attributes:
    count: int32 [], updates done.    mu, nu: {path: float32 as the table}, first and second moment.
    """

    count: jax.Array
    mu: Tables
    nu: Tables


class RowAdagradState(NamedTuple):
    """Attributes: sums: {path: float32 [*stack, M, 1]}."""

    sums: Tables


def scale_by_row_adam(b1: float = 0.9, b2: float = 0.95, eps: float = 1e-8) -> optax.GradientTransformation:
    """Adam's direction, the moments of touched rows only; bias corrected by the number of all updates.

    Raises ValueError for an `eps` that is not positive: the direction of padding would be 0 / 0.
    """
    _check_eps(eps)

    def init(params: Mapping[str, jax.Array]) -> RowAdamState:
        mu, nu = ({name: jnp.zeros(x.shape, jnp.float32) for name, x in params.items()} for _ in range(2))
        return RowAdamState(jnp.zeros((), jnp.int32), mu, nu)

    def update(updates: Updates, state: RowAdamState, params=None) -> tuple[Updates, RowAdamState]:
        del params
        count = jnp.asarray(optax.safe_increment(state.count))
        c1, c2 = (1.0 - b ** count.astype(jnp.float32) for b in (b1, b2))
        mu, nu, out = dict(state.mu), dict(state.nu), {}
        for name, (rows, g) in updates.items():
            m = b1 * take_rows(mu[name], rows) + (1.0 - b1) * g
            v = b2 * take_rows(nu[name], rows) + (1.0 - b2) * jnp.square(g)
            mu[name], nu[name] = put_rows(mu[name], rows, m), put_rows(nu[name], rows, v)
            out[name] = Rows(rows, (m / c1) / (jnp.sqrt(v / c2) + eps))
        return out, RowAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def scale_by_row_adagrad(eps: float = 1e-8, initial: float = 0.0) -> optax.GradientTransformation:
    """Adagrad's direction with one sum of squares a row, of the mean over its V numbers, which begins at `initial`.

    Raises ValueError for an `eps` that is not positive (see `scale_by_row_adam`) or a negative `initial`.
    """
    _check_eps(eps)
    if not initial >= 0:
        raise ValueError(f"initial: {initial}, expected a number that is not negative")

    def init(params: Mapping[str, jax.Array]) -> RowAdagradState:
        return RowAdagradState({name: jnp.full((*x.shape[:-1], 1), initial, jnp.float32) for name, x in params.items()})

    def update(updates: Updates, state: RowAdagradState, params=None) -> tuple[Updates, RowAdagradState]:
        del params
        sums, out = dict(state.sums), {}
        for name, (rows, g) in updates.items():
            a = take_rows(sums[name], rows) + jnp.mean(jnp.square(g), axis=-1, keepdims=True)
            sums[name] = put_rows(sums[name], rows, a)
            out[name] = Rows(rows, g / (jnp.sqrt(a) + eps))
        return out, RowAdagradState(sums)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def scale_rows_by_learning_rate(schedule: optax.Schedule) -> optax.GradientTransformation:
    """The values times minus the learning rate of the update's number, counted from 0."""

    def update(updates: Updates, state: optax.ScaleByScheduleState, params=None):
        del params
        rate = jnp.asarray(schedule(state.count), jnp.float32)
        scaled = {name: Rows(rows, -rate * values) for name, (rows, values) in updates.items()}
        return scaled, optax.ScaleByScheduleState(optax.safe_increment(state.count))

    init = lambda params: optax.ScaleByScheduleState(jnp.zeros((), jnp.int32))
    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def clip_rows(limit: float | None) -> optax.GradientTransformation:
    """Scales the gradient of all tables so that `global_norm` is at most `limit`; None: as they are."""

    def clip(updates: Updates, _) -> Updates:
        values = {name: update.values for name, update in updates.items()}
        clipped = optimizers.clip_by_norm(values, global_norm(updates), limit)
        return {name: Rows(update.rows, clipped[name]) for name, update in updates.items()}

    return optax.stateless(clip)  # pyright: ignore[reportArgumentType]


def global_norm(updates: Mapping[str, Rows]) -> Float[Array, ""]:
    """Norm of the gradient of all tables together: rows that are not listed have none."""
    squares = [jnp.sum(jnp.square(update.values.astype(jnp.float32))) for update in updates.values()]
    return jnp.sqrt(sum(squares, jnp.zeros(())))


def apply_rows(tables: Mapping[str, jax.Array], updates: Mapping[str, Rows]) -> Tables:
    """The tables with the updates added: touched rows in float32, rounded once to the table's dtype.

    A table without an update is handed back as it is. Raises KeyError for the update of a table that is not there.
    """
    new = dict(tables)
    for name, (rows, values) in updates.items():
        new[name] = put_rows(new[name], rows, take_rows(new[name], rows).astype(jnp.float32) + values)
    return new


def build(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """The optimizer of `config.table` for dictionaries {path: Rows}, its clipping included.

    Args:
        config: the main optimizer with its table, whose schedule has the main one's length.
        steps: length of the run, the length of the schedule where the config names none.

    Raises ValueError for an unknown optimizer, and for "dense", which has no rows: there the tables are
    parameters of the main optimizer.
    """
    table = config.table
    if table.name == "adam":
        direction = [scale_by_row_adam(table.b1, table.b2, table.eps)]
    elif table.name == "adagrad":
        direction = [scale_by_row_adagrad(table.eps)]
    elif table.name == "sgd":
        direction = []
    else:
        raise ValueError(f"optimizer.table.name: {table.name!r} is not one of 'adam', 'adagrad', 'sgd'")
    rate = scale_rows_by_learning_rate(optimizers.table_schedule(config, steps))
    return optax.chain(clip_rows(table.clip), *direction, rate)


def _check_eps(eps: float) -> None:
    if not eps > 0:
        raise ValueError(f"eps: {eps}, expected a positive number")
