"""Where a model keeps the tables of its memory layers: shared ones at its root, a stack's own outside the scan."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

SLOTS = ("mlp", "memory")  # where a block may hold a memory layer


def shared_tables(blocks: Sequence[Any], width: int, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
    """The tables that layers of these `BlockConfig`s share, by name, for a stream of `width` channels.

    Raises ValueError where layers of one name want different tables.
    """
    makers: dict[str, Callable] = {}
    for block in blocks:
        for slot in SLOTS:
            layer, name = getattr(block, slot), block.share(slot)
            if name is None:
                continue
            make = lambda rngs, layer=layer: layer.make_table(width, rngs=rngs)
            both = (makers.setdefault(name, make), make)
            shapes = [jax.eval_shape(lambda f=f: f(nnx.Rngs(0)).arrays()) for f in both]
            if shapes[0] != shapes[1]:
                raise ValueError(f"share={name!r}: one layer wants a table {shapes[0]}, another {shapes[1]}")
    return {name: make(rngs) for name, make in sorted(makers.items())}


def lift_tables(blocks: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, dict[str, jax.Array]]]:
    """The blocks without the arrays of tables that their layers own, and these, {"0/mlp": {array: [R, M, V]}}: the scan
    over the stack would copy what it takes out of it."""
    own = {}
    for number, block in enumerate(blocks):
        for slot in SLOTS:
            table = getattr(getattr(block, slot), "table", None)
            if table is not None:
                own[f"{number}/{slot}"] = table.arrays()
    empty = lambda path, leaf: jnp.zeros((leaf.shape[0], 0), leaf.dtype) if in_table(path) else leaf
    return jax.tree_util.tree_map_with_path(empty, tuple(blocks)), own


def in_table(path: Sequence[Any]) -> bool:
    """Whether the leaf at this path in a pytree of blocks is an array of a table."""
    return any(getattr(entry, "key", getattr(entry, "name", None)) == "table" for entry in path)
