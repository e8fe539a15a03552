"""What happens inside the chunks, where none waits for another: before the kernels in sequence, and behind them.

The matrices come from the kernel in `pairs` under one gate a head or none, from that in `channels` under a gate a
channel; what is left to XLA are arrays [B G, N, C, ...].
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from memjax.ops import decays
from memjax.ops.hopper import channels, pairs, tiles
from memjax.ops.hopper.frame import Chunks
from memjax.ops.hopper.tiles import ROWS

_dot = partial(jnp.einsum, precision="highest", preferred_element_type=jnp.float32)


class Problem(NamedTuple):
    """An op's inputs, padded to whole chunks and to widths of 64.

    Attributes:
        q, k: [B, T, H, K].    v: [B, T, G, V].    log_decay: None, [B, T, G] or [B, T, G, K].
        beta: [B, T, G] or None.    documents: [B, N, C], the number of each token's, or None.    masks: from these,
            `decays.Masks` with B G for N and N for M.    scale: on q.
    """

    q: jax.Array
    k: jax.Array
    v: jax.Array
    log_decay: jax.Array | None
    beta: jax.Array | None
    documents: jax.Array | None
    masks: decays.Masks | None
    scale: float

    @property
    def by_channel(self) -> bool:
        return self.log_decay is not None and self.log_decay.ndim == self.k.ndim


def problem(q, k, v, log_decay, beta, index, scale) -> Problem:
    """From the arguments of an op's kernels; padding neither decays nor writes."""
    groups = v.shape[2]
    q, k, v = (widen(x) for x in (q, k, v))
    if log_decay is not None:
        log_decay = widen(log_decay) if log_decay.ndim == 4 else lengthen(log_decay)
    beta = None if beta is None else lengthen(beta)
    masks = None
    if index is not None:
        count = -index.shape[1] % ROWS
        index = jnp.pad(index, ((0, 0), (0, count)), mode="edge").reshape(index.shape[0], -1, ROWS)
        masks = decays.masks(jnp.moveaxis(index, 1, 0))
        masks = decays.Masks(*(jnp.repeat(jnp.moveaxis(x, 0, 1), groups, axis=0) for x in masks))
    return Problem(q, k, v, log_decay, beta, index, masks, scale)


def lengthen(x):
    """[B, T, ...] to whole chunks, zeros behind the end."""
    return jnp.pad(x, ((0, 0), (0, -x.shape[1] % ROWS), *[(0, 0)] * (x.ndim - 2)))


def widen(x):
    """[..., T, G, D] to whole chunks and widths."""
    return jnp.pad(x, ((0, 0), (0, -x.shape[1] % ROWS), (0, 0), (0, -x.shape[3] % ROWS)))


def square(x):
    """States [B, G, K, V] to whole widths."""
    return jnp.pad(x, ((0, 0), (0, 0), (0, -x.shape[2] % ROWS), (0, -x.shape[3] % ROWS)))


def cut(x, groups):
    """[B, T, H, ...] to [B G, N, C, ...], heads repeated to `groups`."""
    x = jnp.repeat(x, groups // x.shape[2], axis=2)
    x = x.reshape(x.shape[0], -1, ROWS, *x.shape[2:])
    return jnp.moveaxis(x, 3, 1).reshape(-1, x.shape[1], ROWS, *x.shape[4:])


def paste(x, batch):
    """The inverse of `cut`."""
    x = x.reshape(batch, -1, *x.shape[1:])
    x = jnp.moveaxis(x, 1, 3)
    return x.reshape(batch, -1, *x.shape[3:])


def chunks(x: Problem, inverse=None, *, interpret) -> tuple[Chunks, jax.Array | None]:
    """What the kernels take, and the inverse [N, B, G, C, C] of the delta rule, computed unless given."""
    q, k, delta = tiles.operand(x.q), tiles.operand(x.k), x.beta is not None
    gate, documents = _vectors(x)
    missing = delta and inverse is None
    run = {"inverse": missing, "scale": x.scale, "interpret": interpret}
    if x.log_decay is not None and x.by_channel:
        start, end, whole = borders(x, None)
        rows = _rows(x, start * x.scale, start, end)
        q, k_in, *found = channels.matrices(q, k, x.log_decay, documents, rows, delta=delta, **run)
        k_out, keep, p, *found = found if delta else (None, *found)
        keep *= whole.reshape(*rows.shape[:3], 1)
    else:
        start, end, whole = borders(x, x.log_decay)
        rows, k_in, k_out = _rows(x, start * x.scale, start, end), k, None
        keep = jnp.broadcast_to(whole.reshape(*rows.shape[:3], 1), (*rows.shape[:3], k.shape[-1]))
        p, *found = pairs.matrices(q, k, gate, documents, rows, **run)
    if missing:
        parts, inverse = found
    else:
        parts = None if inverse is None else tiles.split(jnp.moveaxis(inverse, 0, 2))
    return Chunks(q, k_in, k_out, p, parts, rows, keep), inverse


def gradients(x: Problem, rows, d_o, d_r, written, error, *, interpret) -> dict[str, jax.Array]:
    """`pairs.gradients`, whose arguments these are."""
    (q, k), (gate, documents) = (tiles.operand(x.q), tiles.operand(x.k)), _vectors(x)
    run = {"by_channel": x.by_channel, "scale": x.scale, "interpret": interpret}
    return pairs.gradients(q, k, gate, documents, rows, d_o, d_r, written, error, **run)


def _vectors(x: Problem):
    """What the kernels for pairs of tokens take of a gate a head and of the documents, None for None."""
    lead = (x.v.shape[0], x.v.shape[2], -1, ROWS)
    gate = None if x.log_decay is None or x.by_channel else cut(decays.finite(x.log_decay), lead[1]).reshape(lead)
    return gate, None if x.documents is None else x.documents.astype(jnp.float32)


def shapes(q, k, v, by_channel: bool, delta: bool) -> tuple[Chunks, jax.ShapeDtypeStruct]:
    """What `chunks` gives of one chunk, and 64 columns of v in its parts, as shapes; from q, k, v or their shapes."""
    parts = lambda x: 2 if by_channel or x.dtype != jnp.bfloat16 else 1
    narrow: Any = partial(jax.ShapeDtypeStruct, dtype=jnp.bfloat16)
    wide: Any = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    keys = k.shape[-1] + -k.shape[-1] % ROWS
    operand = lambda count: narrow((count, 1, ROWS, 1, keys))
    matrix, rows, keep = narrow((2, 1, 1, 1, ROWS, ROWS)), wide((1, 1, 1, 4, ROWS)), wide((1, 1, 1, keys))
    k_out = operand(2) if by_channel and delta else None
    chunks = Chunks(operand(parts(q)), operand(parts(k)), k_out, matrix, matrix if delta else None, rows, keep)
    return chunks, narrow((1 if v.dtype == jnp.bfloat16 else 2, 1, ROWS, 1, ROWS))


def _rows(x: Problem, query, read, write):
    """`Chunks.rows` from [B G, N, C]."""
    beta = jnp.zeros_like(read) if x.beta is None else cut(x.beta, x.v.shape[2])
    rows = jnp.stack([query, read, write, beta], axis=-2)
    return rows.reshape(x.q.shape[0], x.v.shape[2], *rows.shape[1:])


def borders(x: Problem, log_decay):
    """The decay from the start and to the end [B G, N, C], and over the chunk [B G, N]."""
    if log_decay is None:
        start = end = jnp.zeros((x.v.shape[0] * x.v.shape[2], x.v.shape[1] // ROWS, ROWS), jnp.float32)
    else:
        log_decay, upto = cut(decays.finite(log_decay), x.v.shape[2]), np.tri(ROWS, dtype=np.float32)
        start, end = (_dot("ij,mnj->mni", mask, log_decay) for mask in (upto, 1 - upto))
    start, end, whole = decays.to_borders(start[..., None], end[..., None], x.masks)
    return start[..., 0], end[..., 0], whole[..., 0, 0]
