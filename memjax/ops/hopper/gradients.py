"""The kernels without order in time, behind the two passes of the backward: sums over the columns of V.

A block of the grid owns one chunk (`inner`, under a gate a channel; else the first half of `pairs.gradients`), or one
chunk and 64 key channels (`outer`), and goes through V in tiles of 64 columns. With do, dR (rows of the chunk), E and W
as in `sequence`, S the state before the chunk and D the cotangent of the one behind it:

           V                inner, 64 x 64:  dP = do W^T       -dA = dR W^T      and the row sums of dR E
      +--+--+--+--
    64|  |  |  |   ->       outer, 64 x K:   do S^T   dR S^T   W D^T             and the row sums of D S
      +--+--+--+--
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from memjax.ops.hopper import frame
from memjax.ops.hopper.frame import BETA, QUERY, READ, WRITE
from memjax.ops.hopper.tiles import ROWS, nothing, product, scale_rows, total, transposed, zeros


class _Spot(NamedTuple):
    """A chunk of a memory, and a block of its key channels."""

    batch: Any
    group: Any
    head: Any
    chunk: Any
    block: Any

    @property
    def channels(self):
        return pl.ds(self.block * ROWS, ROWS)

    def rows(self, ref, i, part):
        """Tile i of [parts, B, T, G, V]."""
        return ref.at[part, self.batch, pl.ds(self.chunk * ROWS, ROWS), self.group, pl.ds(i * ROWS, ROWS)]

    def state(self, ref, i, part):
        """Tile i of [parts, B, G, N, K, V]."""
        return ref.at[part, self.batch, self.group, self.chunk, self.channels, pl.ds(i * ROWS, ROWS)]

    def keys(self, ref, i, part):
        """The chunk of [parts, B, T, H, K]."""
        return ref.at[part, self.batch, pl.ds(self.chunk * ROWS, ROWS), self.head, self.channels]

    def matrix(self, ref, i, part):
        """The chunk of [parts, B, G, N, C, C]."""
        return ref.at[part, self.batch, self.group, self.chunk]

    def vector(self, ref, i, part):
        """The chunk of [B, G, N, ...]."""
        return ref.at[self.batch, self.group, self.chunk]


def _spot(groups: int, heads: int) -> _Spot:
    memory = jax.lax.axis_index("memory")
    group = jax.lax.rem(memory, groups)
    head = jax.lax.div(group, groups // heads)
    return _Spot(jax.lax.div(memory, groups), group, head, jax.lax.axis_index("chunk"), jax.lax.axis_index("block"))


def inner(
    d_o: jax.Array, d_r: jax.Array, written: jax.Array, error: jax.Array | None, *, interpret: Any
) -> tuple[jax.Array, ...]:
    """do W^T [B, G, N, C, C] and, of the delta rule, dR W^T and the row sums of dR E [B, G, N, C], in float32.

    Args:
        d_o, d_r, written: [1 or 2, B, T, G, V].    error: the same, None: linear attention.
    """
    delta = error is not None
    given = {"d_o": d_o, "written": written} | ({"d_r": d_r, "error": error} if delta else {})

    def body(walk, own, others, outputs):
        at = _spot(d_o.shape[3], d_o.shape[3])
        for output, found in zip(outputs, over_values(walk, at, delta), strict=True):
            output[at.batch, at.group, at.chunk] = found

    lead = (d_o.shape[1], d_o.shape[3], d_o.shape[2] // ROWS)
    shapes = [(*lead, ROWS, ROWS)] + [(*lead, ROWS, ROWS), (*lead, ROWS)] * delta
    out_type = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    inputs = {name: frame.Input(x, _Spot.rows, (ROWS, ROWS)) for name, x in given.items()}
    return _call(body, inputs, out_type, d_o, 1, interpret)


def over_values(walk: Callable, at: Any, delta: bool) -> tuple[jax.Array, ...]:
    """What `inner` gives, in registers: the sums over the tiles of V that a kernel's `walk` goes through."""

    def step(i, tile, sums):
        to = transposed(tile["written"])
        sums = [sums[0] + product((tile["d_o"], to)), *sums[1:]]
        if delta:
            sums[1] += product((tile["d_r"], to))
            sums[2] += (total(tile["d_r"]) * total(tile["error"])).sum(1)
        return tuple(sums)

    return walk(step, (zeros(), *((zeros(), nothing()) if delta else ())), at)


class Finish(NamedTuple):
    """What `outer` needs to give the gradients of q and k themselves, under one gate a head.

    Attributes:
        q, k: [1 or 2, B, T, H, K].    m_q: [2, B, G, N, C, C], the cotangent of q k^T.    m_k: the same of k k^T, with
        its transpose added, or None.    rows: as in `frame.Chunks`.
    """

    q: jax.Array
    k: jax.Array
    m_q: jax.Array
    m_k: jax.Array | None
    rows: jax.Array


def outer(
    d_o: jax.Array,
    d_r: jax.Array,
    written: jax.Array,
    states: jax.Array,
    d_states: jax.Array,
    finish: Finish | None,
    *,
    delta: bool,
    interpret: Any,
) -> tuple[jax.Array, ...]:
    """Gradients through the states, float32 but as said here.

    Without `finish` do S^T, W D^T and, of the delta rule, dR S^T [B, G, N, C, K], and last the row sums of D S
    [B, G, N, K]. With it d_q and d_k [B, T, G, K] (bfloat16 if G = H and their inputs have one part), the cotangents of
    the rows of `frame.Chunks` but beta [B, G, N, K / 64, 3, C], and the same row sums.

    Args:
        d_o, d_r, written: as in `inner`.    states, d_states: [2, B, G, N, K, V].
    """
    rows = {"d_o": d_o, "written": written} | ({"d_r": d_r} if delta else {})
    heads = d_o.shape[3] if finish is None else finish.q.shape[3]

    def body(walk, own, others, outputs):
        at = _spot(d_o.shape[3], heads)

        def step(i, tile, sums):
            states, d_states = tile["states"], tile["d_states"]
            terms = [(tile["d_o"], states), (tile["written"], d_states)] + ([(tile["d_r"], states)] if delta else [])
            products = [found + product((x, transposed(s))) for found, (x, s) in zip(sums, terms, strict=False)]
            return *products, sums[-1] + (total(states) * total(d_states)).sum(1)

        *sums, keep = walk(step, (*(zeros() for _ in range(2 + delta)), nothing()), at)
        outputs[-1][at.batch, at.group, at.chunk, at.channels] = keep
        if finish is None:
            for output, found in zip(outputs, sums, strict=False):
                output[at.batch, at.group, at.chunk, :, at.channels] = found
        else:
            _finish(sums, own, outputs, at)

    keys, lead = states.shape[4], states.shape[1:4]
    array = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    out_type = [array((*lead, ROWS, keys))] * (2 + delta)
    if finish is not None:
        alone = heads == d_o.shape[3]  # else heads are summed before they are rounded
        dtypes = (jnp.bfloat16 if alone and x.shape[0] == 1 else jnp.float32 for x in (finish.q, finish.k))
        out_type = [jax.ShapeDtypeStruct((*d_o.shape[1:4], keys), dtype) for dtype in dtypes]
        out_type += [array((*lead, keys // ROWS, 3, ROWS))]
    inputs = {name: frame.Input(x, _Spot.rows, (ROWS, ROWS)) for name, x in rows.items()}
    inputs |= {n: frame.Input(x, _Spot.state, (ROWS, ROWS)) for n, x in (("states", states), ("d_states", d_states))}
    fixed = {} if finish is None else _fixed(finish)
    return _call(body, inputs, [*out_type, array((*lead, keys))], d_o, keys // ROWS, interpret, fixed)


def _fixed(finish):
    fixed = {name: frame.Input(x, _Spot.keys, (ROWS, ROWS)) for name, x in (("q", finish.q), ("k", finish.k))}
    products = {"m_q": finish.m_q} | ({} if finish.m_k is None else {"m_k": finish.m_k})
    fixed |= {name: frame.Input(x, _Spot.matrix, (ROWS, ROWS)) for name, x in products.items()}
    return fixed | {"rows": frame.Input(finish.rows, _Spot.vector, finish.rows.shape[3:])}


def _finish(sums, own, outputs, at):
    read, write, *error = sums
    row = lambda n, x: scale_rows(own["rows"].at[0, n], x)
    q, k = total(own["q"]), total(own["k"])
    d_q, d_k, d_rows = (ref.at[at.batch] for ref in outputs[:3])
    place = (pl.ds(at.chunk * ROWS, ROWS), at.group, at.channels)
    d_rows = d_rows.at[at.group, at.chunk, at.block]
    d_q[place] = (row(QUERY, read) + product((own["m_q"], own["k"]))).astype(d_q.dtype)
    d_rows[QUERY] = (q * read).sum(1)
    d_rows[WRITE] = (k * write).sum(1)
    terms, through = [(transposed(own["m_q"]), own["q"])], row(WRITE, write)
    if error:
        terms += [(own["m_k"], own["k"])]
        corrected = row(BETA, error[0])
        through -= row(READ, corrected)
        d_rows[READ] = -(k * corrected).sum(1)
    else:
        d_rows[READ] = nothing()
    d_k[place] = (through + product(*terms)).astype(d_k.dtype)


def _call(body, inputs, out_type, d_o, blocks, interpret, fixed=None):
    _, batch, time, groups, columns = d_o.shape
    grid = {"memory": batch * groups, "chunk": time // ROWS, "block": blocks}
    run = {"grid": grid, "count": columns // ROWS, "fixed": fixed, "interpret": interpret}
    return frame.call(body, inputs, [], out_type, {}, **run)
