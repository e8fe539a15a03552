"""The last kernel of the backward: sums over the columns of V, and the gradients of q and k.

A block of the grid owns one chunk and 64 key channels and goes through V in tiles of 64 columns. With do, dR (rows of
the chunk) and W as in `sequence`, S the state before the chunk and D the cotangent of the one behind it:

           V
      +--+--+--+--
    64|  |  |  |   ->   64 x 64 of K:   do S^T   dR S^T   W D^T   and the row sums of D S   ->   `finish`
      +--+--+--+--
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from memjax.ops.hopper import frame
from memjax.ops.hopper.frame import BETA, QUERY, READ, WRITE
from memjax.ops.hopper.places import Spot, spot
from memjax.ops.hopper.tiles import ROWS, nothing, product, scale_rows, total, transposed, zeros


class Finish(NamedTuple):
    """What makes of the sums over V the gradients of q and k, under one gate a head.

    Attributes:
        q, k: [1 or 2, B, T, H, K].    m_q: [2, B, G, N, C, C], the cotangent of q k^T.    m_k: the same of k k^T, with
        its transpose added, or None.    rows: as in `frame.Chunks`.
    """

    q: jax.Array
    k: jax.Array
    m_q: jax.Array
    m_k: jax.Array | None
    rows: jax.Array

    by_lane = False

    def fixed(self) -> dict[str, frame.Input]:
        return inputs_of_a_chunk(self)

    def own(self) -> dict[str, tuple[int, ...]]:
        return {}

    def out_type(self) -> list[jax.ShapeDtypeStruct]:
        """d_q and d_k, as `outer` gives them, the cotangents of the rows of `frame.Chunks` but beta
        [B, G, N, K / 64, 3, C], and of keep [B, G, N, K]."""
        lead, keys = self.rows.shape[:3], self.k.shape[4]
        shapes = (*lead, keys // ROWS, 3, ROWS), (*lead, keys)
        return [*keys_like(self), *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)]

    def run(self, sums, d_keep, own, outputs, at) -> None:
        read, write, *error = sums
        row = lambda n, x: scale_rows(own["rows"].at[0, n], x)
        q, k = total(own["q"]), total(own["k"])
        d_q, d_k, d_rows, d_keep_out = outputs
        at.block_vector(d_keep_out, 0, 0)[...] = d_keep
        d_rows = at.vector(d_rows, 0, 0).at[at.block]
        at.block_gate(d_q, 0, 0)[...] = (row(QUERY, read) + product((own["m_q"], own["k"]))).astype(d_q.dtype)
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
        at.block_gate(d_k, 0, 0)[...] = (through + product(*terms)).astype(d_k.dtype)


def inputs_of_a_chunk(finish: Any) -> dict[str, frame.Input]:
    """q, k, m_q, m_k and rows of a `finish`, loaded once a block."""
    fixed = {name: frame.Input(x, Spot.block_keys, (ROWS, ROWS)) for name, x in (("q", finish.q), ("k", finish.k))}
    products = {"m_q": finish.m_q} | ({} if finish.m_k is None else {"m_k": finish.m_k})
    fixed |= {name: frame.Input(x, Spot.matrix, (ROWS, ROWS)) for name, x in products.items()}
    return fixed | {"rows": frame.Input(finish.rows, Spot.vector, finish.rows.shape[3:])}


def keys_like(finish: Any) -> list[jax.ShapeDtypeStruct]:
    """d_q and d_k of a `finish`."""
    groups, (_, batch, time, heads, keys) = finish.rows.shape[1], finish.k.shape
    exact = lambda x: heads == groups and x.shape[0] == 1  # else heads are summed before they are rounded
    dtypes = (jnp.bfloat16 if exact(x) else jnp.float32 for x in (finish.q, finish.k))
    return [jax.ShapeDtypeStruct((batch, time, groups, keys), dtype) for dtype in dtypes]


def outer(
    d_o: jax.Array,
    d_r: jax.Array,
    written: jax.Array,
    states: jax.Array,
    d_states: jax.Array,
    finish: Any,
    *,
    delta: bool,
    interpret: Any,
) -> tuple[jax.Array, ...]:
    """Gradients through the states and inside the chunk: d_q and d_k [B, T, G, K], and what else `finish` gives.

    They are bfloat16 if their inputs have one part and one value head alone reads a key head, else float32.

    Args:
        d_o, d_r, written: [1 or 2, B, T, G, V].    states, d_states: [2, B, G, N, K, V].
        finish: a `Finish`, or that of `channels`.
    """
    rows = {"d_o": d_o, "written": written} | ({"d_r": d_r} if delta else {})

    def body(walk, own, others, outputs):
        at = spot(d_o.shape[3], finish.q.shape[3], blocks=True)

        def step(i, tile, sums):
            states, d_states = tile["states"], tile["d_states"]
            terms = [(tile["d_o"], states), (tile["written"], d_states)] + ([(tile["d_r"], states)] if delta else [])
            products = [found + product((x, transposed(s))) for found, (x, s) in zip(sums, terms, strict=False)]
            return *products, sums[-1] + (total(states) * total(d_states)).sum(1)

        *sums, d_keep = walk(step, (*(zeros() for _ in range(2 + delta)), nothing()), at)
        finish.run(sums, d_keep, own, outputs, at)

    _, batch, time, groups, columns = d_o.shape
    grid = {"memory": batch * groups, "chunk": time // ROWS, "block": states.shape[4] // ROWS}
    inputs = {name: frame.Input(x, Spot.operand, (ROWS, ROWS)) for name, x in rows.items()}
    borders = {"states": states, "d_states": d_states}
    inputs |= {name: frame.Input(x, Spot.block_state, (ROWS, ROWS)) for name, x in borders.items()}
    run = {"grid": grid, "count": columns // ROWS, "fixed": finish.fixed(), "by_lane": finish.by_lane}
    return frame.call(body, inputs, [], finish.out_type(), finish.own(), interpret=interpret, **run)
