"""Gradients of memory layers' tables on the rows that a step reads, and nowhere else.

Where `optimizer.table` trains tables by rows, the model takes them as constants, each read has a tap (a zero added to
what is read, see `memjax.layers.memory_table`), and the taps' cotangents with the reads give the gradient of at most
min(rows, reads) rows a table. No array as large as a table is formed.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from memjax.layers import Read
from memjax.models import BackboneConfig
from memjax.ops import row_gradients
from memjax.training.row_optimizers import Rows

Reads = Mapping[str, Mapping[str, Read]]  # {"0/mlp": {array: Read}}, as the model reports them

_TABLE = re.compile(r"(^|/)(table|tables/[^/]+)/[^/]+$")


def is_table(name: str) -> bool:
    """Whether the parameter at path `name` is an array of a memory layer's table."""
    return bool(_TABLE.search(name))


def parameter_of(config: BackboneConfig, layer: str, array: str) -> str:
    """The path of the array that the layer at `layer`, such as "0/mlp", reads under this name."""
    number, slot = layer.split("/")
    share = config.blocks[int(number)].share(slot)
    return f"blocks/{layer}/table/{array}" if share is None else f"tables/{share}/{array}"


def gather(
    config: BackboneConfig, reads: Reads, cotangents: Mapping[str, Mapping[str, jax.Array]], rows: Mapping[str, int]
) -> dict[str, Rows]:
    """The gradient of every table, by the path of its array.

    Args:
        config: of the model.
        reads: what the layers read; leaves [A, R, B, T, ...] for A micro-batches and R repeats of the pattern.
        cotangents: of the taps, {layer: {array: [A, R, B, T, ...]}}.
        rows: M of each array, by path.
    """
    found: dict[str, list[tuple[jax.Array, ...]]] = {}
    for layer, arrays in reads.items():
        for array, read in arrays.items():
            tap, name = cotangents[layer][array], parameter_of(config, layer, array)
            scores = tap if read.scores is None else read.scores
            vectors = tap if read.vectors is None else read.vectors
            lead = read.indices.shape[:-1]  # a tap may have the axes behind T as one
            parts = (read.indices, scores.reshape(read.indices.shape), vectors.reshape(*lead, -1))
            shared = name.startswith("tables/")
            found.setdefault(name, []).append(tuple(_by_token(part, shared) for part in parts))
    return {name: _sum(parts, rows[name]) for name, parts in found.items()}


def _by_token(x: jax.Array, shared: bool) -> jax.Array:
    """[A, R, B, T, ..., J] -> [tokens, J] for a table that all repeats share, [R, tokens, J] for one each."""
    return x.reshape(-1, x.shape[-1]) if shared else jnp.moveaxis(x, 1, 0).reshape(x.shape[1], -1, x.shape[-1])


def _sum(parts: Iterable[tuple[jax.Array, ...]], rows: int) -> Rows:
    """Layers that read one table side by side; shorter bags are filled up with reads of nothing."""
    indices, scores, vectors = zip(*parts, strict=True)
    bag = max(at.shape[-1] for at in indices)
    fill = lambda x, value: jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, bag - x.shape[-1])], constant_values=value)
    join = lambda xs: jnp.concatenate(xs, axis=-2)
    at, scores = join([fill(x, rows) for x in indices]), join([fill(x, 0) for x in scores])
    vectors = join([x.astype(jnp.float32) for x in vectors])
    return Rows(*row_gradients(at, scores.astype(jnp.float32), vectors, rows, stacked=at.ndim == 3))


def squared_norm(gradient: Any) -> jax.Array:
    """Of a gradient that is an array or `Rows`."""
    return jnp.sum(jnp.square(gradient.values if isinstance(gradient, Rows) else gradient))
