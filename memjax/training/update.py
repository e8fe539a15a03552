"""The update of all parameters: the main optimizer's, and that of memory tables by the rows that a step read."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from memjax.config import TrainConfig
from memjax.training import optimizers, row_optimizers
from memjax.training.row_optimizers import Rows
from memjax.training.skeleton import Parameters, Skeleton
from memjax.training.touched_rows import is_table

Gradients = Mapping[str, Any]  # by path: an array, or Rows for a table that is trained by rows


class Slots(NamedTuple):
    """State of the main optimizer, and of that of the tables: () where none is trained by rows."""

    main: Any
    table: Any


class Optimizer:
    """What turns gradients into parameters."""

    def __init__(self, config: TrainConfig, skeleton: Skeleton):
        by_rows = config.optimizer.table.name != "dense"
        self.tables = tuple(name for name in skeleton.abstract if by_rows and is_table(name))
        self._config, self._steps = config.optimizer, config.steps
        names = [name for name in skeleton.abstract if name not in self.tables]
        self._main = optimizers.build(config.optimizer, names, config.steps)
        self._table = row_optimizers.build(config.optimizer, config.steps) if self.tables else None

    def init(self, parameters: Parameters) -> Slots:
        """The state before the first update."""
        main, tables = self._split(parameters)
        return Slots(self._main.init(main), () if self._table is None else self._table.init(tables))

    def update(
        self,
        gradients: Gradients,
        squares: Mapping[str, jax.Array],
        slots: Slots,
        parameters: Parameters,
        step: jax.Array,
    ) -> tuple[Parameters, Slots, dict[str, jax.Array]]:
        """New parameters and slots, and what is worth logging about it.

        The main gradient's norm and that of the tables' are clipped each for itself. `squares`: the squared norm of
        each gradient.
        """
        main, tables = self._split(parameters)
        mine, rows = self._split(gradients)
        norms = [jnp.sqrt(sum(part.values(), jnp.zeros(()))) for part in self._split(squares)]
        updates, main_slots = self._main.update(
            optimizers.clip_by_norm(mine, norms[0], self._config.clip), slots.main, main
        )
        changed: Any = optax.apply_updates(main, updates)
        rate = optimizers.schedule(self._config, self._steps)(step)
        metrics = {"gradient_norm": norms[0], "learning_rate": jnp.asarray(rate)}
        if self._table is None:
            return changed, Slots(main_slots, ()), metrics
        row_updates: Any
        row_updates, table_slots = self._table.update(rows, slots.table, tables)
        metrics |= {"table_gradient_norm": norms[1], "table_rows": _count(rows, tables)}
        changed |= row_optimizers.apply_rows(tables, row_updates)
        return {name: changed[name] for name in parameters}, Slots(main_slots, table_slots), metrics

    def _split(self, tree: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the main optimizer and what the tables' one gets of values by path."""
        tables = set(self.tables)
        return (
            {name: value for name, value in tree.items() if name not in tables},
            {name: value for name, value in tree.items() if name in tables},
        )


def _count(rows: Mapping[str, Rows], tables: Mapping[str, jax.Array]) -> jax.Array:
    """The rows touched, padding left out."""
    touched = [jnp.sum(rows[name].rows < table.shape[-2], dtype=jnp.int32) for name, table in tables.items()]
    return sum(touched, jnp.int32(0))
