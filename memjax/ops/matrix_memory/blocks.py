"""How the arrays of an op with a matrix a head lie for its TPU kernels, and which block of them a program sees.

Heads stand side by side, [B, T, H K], so that a block [tokens, K] of one head is cut out where the array lies.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from memjax.ops import chunking

LANES = 128


class Shape(NamedTuple):
    """Sizes of a call: batch, key heads, value heads, chunks, tokens a chunk, chunks a step, keys and values (padded);
    the dtype of q, k and v if it is one."""

    batch: int
    heads: int
    groups: int
    count: int
    chunk: int
    step: int
    keys: int
    values: int
    narrow: Any
    scale: float


class Inputs(NamedTuple):
    """What the kernels read; names are those of the ops.

    Attributes:
        q, k: [B, T, H K].    v: [B, T, G V].
        rows: [B, G, N, 2, C] float32, beta and a log-decay a head (ones and zeros where there is none).
        gate: [B, T, G K] float32, a log-decay a channel, or None.
        docs: [B, N, 2, C] float32, the number of each token's document and of the one before the chunk, or None.
        state: [B, G, K, V].
    """

    q: Any
    k: Any
    v: Any
    rows: Any
    gate: Any
    docs: Any
    state: Any


def specs(shape: Shape, reverse: bool) -> dict[str, pl.BlockSpec]:
    """The block of each kind of array for program (b, g, n); with `reverse` the last steps come first."""
    steps = shape.count // shape.step
    at = (lambda n: steps - 1 - n) if reverse else (lambda n: n)
    ratio, tokens = shape.groups // shape.heads, shape.step * shape.chunk
    return {
        "key": pl.BlockSpec((None, tokens, shape.keys), lambda b, g, n: (b, at(n), jax.lax.div(g, jnp.int32(ratio)))),
        "value": pl.BlockSpec((None, tokens, shape.values), lambda b, g, n: (b, at(n), g)),
        "rows": pl.BlockSpec((None, None, shape.step, 2, shape.chunk), lambda b, g, n: (b, g, at(n), 0, 0)),
        "gate": pl.BlockSpec((None, tokens, shape.keys), lambda b, g, n: (b, at(n), g)),
        "docs": pl.BlockSpec((None, shape.step, 2, shape.chunk), lambda b, g, n: (b, at(n), 0, 0)),
        "state": pl.BlockSpec((None, None, shape.keys, shape.values), lambda b, g, n: (b, g, 0, 0)),
        "states": pl.BlockSpec((shape.step, None, None, shape.keys, shape.values), lambda b, g, n: (at(n), b, g, 0, 0)),
        "inverse": pl.BlockSpec(
            (shape.step, None, None, shape.chunk, shape.chunk), lambda b, g, n: (at(n), b, g, 0, 0)
        ),
    }


def shape_of(q, k, v, scale) -> Shape:
    """The sizes of the kernels' blocks for q, k [B, T, H, K] and v [B, T, G, V]."""
    chunk = chunking.size(q.shape[1])
    count = -(-q.shape[1] // chunk)
    step = next(step for step in (4, 2, 1) if count % step == 0)
    keys, values = (-(-x.shape[-1] // LANES) * LANES for x in (k, v))
    narrow = k.dtype if q.dtype == k.dtype else None
    return Shape(q.shape[0], q.shape[2], v.shape[2], count, chunk, step, keys, values, narrow, scale)


def lay_out(shape: Shape, q, k, v, log_decay, beta, state, index) -> Inputs:
    """The op's arguments as the kernels read them: whole chunks, heads side by side, lanes filled up with zeros."""
    by_channel = log_decay is not None and log_decay.ndim == 4
    time = shape.count * shape.chunk

    def by_row(x):
        x = jnp.pad(x, ((0, 0), (0, time - x.shape[1]), (0, 0)))
        return jnp.moveaxis(x, 2, 1).reshape(shape.batch, -1, shape.count, shape.chunk)

    scalar = jnp.zeros(v.shape[:3]) if log_decay is None or by_channel else log_decay
    rows = jnp.stack([by_row(jnp.ones(v.shape[:3]) if beta is None else beta), by_row(scalar)], axis=3)
    docs = None
    if index is not None:
        index = jnp.pad(index, ((0, 0), (0, time - index.shape[1])), mode="edge")
        index = index.reshape(shape.batch, shape.count, shape.chunk)
        incoming = jnp.pad(index[:, :-1, -1:], ((0, 0), (1, 0), (0, 0)))
        docs = jnp.stack([index, jnp.broadcast_to(incoming, index.shape)], axis=2).astype(jnp.float32)
    gate = pad(shape, log_decay, shape.keys) if by_channel else None
    q, k, v = pad(shape, q, shape.keys), pad(shape, k, shape.keys), pad(shape, v, shape.values)
    return Inputs(q, k, v, rows, gate, docs, pad_state(shape, state))


def pad(shape: Shape, x, width):
    """[B, T, H, K] as [B, N C, H width]."""
    x = jnp.pad(x, ((0, 0), (0, shape.count * shape.chunk - x.shape[1]), (0, 0), (0, width - x.shape[3])))
    return x.reshape(*x.shape[:2], -1)


def pad_state(shape: Shape, state):
    """[B, G, K, V] with zeros up to whole lanes."""
    keys, values = state.shape[2:]
    return jnp.pad(state, ((0, 0), (0, 0), (0, shape.keys - keys), (0, shape.values - values)))


def values(shape: Shape, x, like):
    """The inverse of `_pad`, for an array that has the shape of `like` [B, T, G, V]."""
    return x.reshape(*x.shape[:2], like.shape[2], -1)[:, : like.shape[1], :, : like.shape[3]]


def sum_groups(shape: Shape, x, like):
    """[B, N C, G width] summed over the value heads of each key head, as `like` [B, T, H, K]."""
    x = x.reshape(*x.shape[:2], like.shape[2], shape.groups // shape.heads, -1).sum(3, dtype=jnp.float32)
    return x[:, : like.shape[1], :, : like.shape[3]].astype(like.dtype)
