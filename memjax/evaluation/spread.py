"""Evaluation inside a training run's mesh: each device scores its share of the rows, everyone gets the answers."""

import jax
from jax.sharding import PartitionSpec

from memjax.sharding import BATCH
from memjax.types import BATCH_AXES


def split_rows(tree):
    """Splits axis 0 of arrays [B, ...] over the batch axes of the current mesh; unchanged where that cannot be."""
    return jax.tree.map(lambda x: _constrain(x, BATCH) if _divides(x.shape[0]) else x, tree)


def whole(tree):
    """Puts a copy of each array on every device of the current mesh, so that any process can read it."""
    return jax.tree.map(lambda x: _constrain(x, PartitionSpec()), tree)


def _divides(rows: int) -> bool:
    sizes = dict(jax.sharding.get_abstract_mesh().shape)
    parts = 1
    for axis in BATCH_AXES:
        parts *= sizes.get(axis, 1)
    return rows % parts == 0


def _constrain(x: jax.Array, spec: PartitionSpec) -> jax.Array:
    return x if jax.sharding.get_abstract_mesh().empty else jax.lax.with_sharding_constraint(x, spec)
