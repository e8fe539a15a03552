"""What happens inside the chunks, where none waits for another: before the kernels in sequence, and behind them.

Under one gate a head or none the matrices come from the kernels in `pairs`, and so do the gradients through them; the
rest is left to XLA. Arrays are [B G, N, C, ...], so that the functions on chunks of the XLA implementations serve here
too.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from memjax.ops import decays
from memjax.ops.gated_delta_rule import xla
from memjax.ops.hopper import pairs, tiles
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


def products(q, k, log_decay, beta, masks, scale, groups) -> xla.Chunks:
    """`xla.products` of arrays [B, T, ...]; without beta its `a` is zero."""
    beta = jnp.zeros((*q.shape[:2], groups), jnp.float32) if beta is None else beta
    gate = None if log_decay is None else cut(log_decay, groups)
    wide = lambda x: cut(x.astype(jnp.float32), groups)
    return xla.products(wide(q) * scale, wide(k), gate, cut(beta, groups), masks)


def chunks(x: Problem, inverse=None, *, interpret) -> tuple[Chunks, jax.Array | None]:
    """What the kernels take, and the inverse [N, B, G, C, C] of the delta rule, computed unless given."""
    if x.by_channel:
        return _chunks_by_channel(x, inverse)
    batch, groups = x.q.shape[0], x.v.shape[2]
    start, end, whole = borders(x, x.log_decay)
    rows = _rows(x, start * x.scale, start, end)
    keep = jnp.broadcast_to(whole[..., None], (*whole.shape, x.k.shape[-1])).reshape(batch, groups, -1, x.k.shape[-1])
    q, k, missing = tiles.operand(x.q), tiles.operand(x.k), x.beta is not None and inverse is None
    run = {"inverse": missing, "scale": x.scale, "interpret": interpret}
    p, *found = pairs.matrices(q, k, *_vectors(x), rows, **run)
    if missing:
        parts, inverse = found
    else:
        parts = None if inverse is None else _inverse_parts(inverse)
    return Chunks(q, k, None, p, parts, rows, keep), inverse


def gradients(x: Problem, chunks: Chunks, values, *, interpret) -> dict[str, jax.Array]:
    """`pairs.gradients`, from (d_o, d_r, written, error)."""
    given = (chunks.q, chunks.k_in, *_vectors(x), chunks.rows, *values)
    return pairs.gradients(*given, scale=x.scale, interpret=interpret)


def _vectors(x: Problem):
    """What the kernels for pairs of tokens take of the gate and of the documents, None for None."""
    lead = (x.v.shape[0], x.v.shape[2], -1, ROWS)
    gate = None if x.log_decay is None else cut(x.log_decay, lead[1]).reshape(lead)
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


def _chunks_by_channel(x: Problem, inverse):
    batch, groups = x.q.shape[0], x.v.shape[2]
    inside = products(x.q, x.k, x.log_decay, x.beta, x.masks, x.scale, groups)
    operand = lambda y: jnp.stack([paste(part, batch) for part in tiles.split(y)])
    q, k_in, k_out = (operand(y) for y in (inside.q_in, inside.k_in, inside.k_out))
    ones = jnp.ones((*inside.p.shape[:3],), jnp.float32)
    keep = inside.keep.reshape(batch, groups, -1, x.k.shape[-1])
    p, rows = matrix_parts(inside.p, batch), _rows(x, ones, ones, ones)
    if x.beta is None:
        return Chunks(q, k_out, None, p, None, rows, keep), None
    if inverse is None:
        inverse = xla.invert(inside.a)
        inverse = jnp.moveaxis(inverse.reshape(batch, groups, *inverse.shape[1:]), 2, 0)
    return Chunks(q, k_in, k_out, p, _inverse_parts(inverse), rows, keep), inverse


def _rows(x: Problem, query, read, write):
    """`Chunks.rows` from [B G, N, C]."""
    beta = jnp.zeros_like(read) if x.beta is None else cut(x.beta, x.v.shape[2])
    rows = jnp.stack([query, read, write, beta], axis=-2)
    return rows.reshape(x.q.shape[0], x.v.shape[2], *rows.shape[1:])


def _inverse_parts(inverse):
    """[N, B, G, C, C] as `Chunks.x`."""
    return tiles.split(jnp.moveaxis(inverse, 0, 2))


def matrix_parts(x, batch):
    """[B G, ...] as parts [2, B, G, ...]."""
    return jnp.stack([part.reshape(batch, -1, *part.shape[1:]) for part in tiles.split(x)])


def borders(x: Problem, log_decay):
    """The decay from the start and to the end [B G, N, C], and over the chunk [B G, N]."""
    if log_decay is None:
        start = end = jnp.zeros((x.v.shape[0] * x.v.shape[2], x.v.shape[1] // ROWS, ROWS), jnp.float32)
    else:
        log_decay, upto = cut(log_decay, x.v.shape[2]), np.tri(ROWS, dtype=np.float32)
        start, end = (_dot("ij,mnj->mni", mask, log_decay) for mask in (upto, 1 - upto))
    start, end, whole = decays.to_borders(start[..., None], end[..., None], x.masks)
    return start[..., 0], end[..., 0], whole[..., 0, 0]
