"""The kernels without order in time, behind the two passes of the backward: sums over the columns of V.

A block of the grid owns one chunk (`inner`), or one chunk and 64 key channels (`outer`), and goes through V in tiles of
64 columns. With do, dR (rows of the chunk), E and W as in `sequence`, S the state before the chunk and D the cotangent
of the one behind it:

           V                inner, 64 x 64:  dP = do W^T       -dA = dR W^T      and the row sums of dR E
      +--+--+--+--
    64|  |  |  |   ->       outer, 64 x K:   do S^T   dR S^T   W D^T             and the row sums of D S
      +--+--+--+--
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from memjax.ops.hopper import frame
from memjax.ops.hopper.tiles import MATRIX, ROWS, VECTOR, product, transposed, zeros


class _Spot(NamedTuple):
    """A chunk of a memory, and a block of its key channels."""

    batch: Any
    group: Any
    chunk: Any
    channels: Any

    def rows(self, ref, i, part):
        """Tile i of [parts, B, T, G, V]."""
        return ref.at[part, self.batch, pl.ds(self.chunk * ROWS, ROWS), self.group, pl.ds(i * ROWS, ROWS)]

    def state(self, ref, i, part):
        """Tile i of [parts, B, G, N, K, V]."""
        return ref.at[part, self.batch, self.group, self.chunk, self.channels, pl.ds(i * ROWS, ROWS)]


def _spot(groups: int) -> _Spot:
    memory, block = jax.lax.axis_index("memory"), jax.lax.axis_index("block")
    place = jax.lax.div(memory, groups), jax.lax.rem(memory, groups), jax.lax.axis_index("chunk")
    return _Spot(*place, pl.ds(block * ROWS, ROWS))


def inner(
    d_o: jax.Array, d_r: jax.Array, written: jax.Array, error: jax.Array | None, *, interpret: bool
) -> tuple[jax.Array, ...]:
    """do W^T [B, G, N, C, C] and, of the delta rule, dR W^T and the row sums of dR E [B, G, N, C], in float32.

    Args:
        d_o: [1, B, T, G, V].    d_r, written: the same in one part or two.    error: the same, None: linear attention.
    """
    delta = error is not None
    given = {"d_o": d_o, "written": written} | ({"d_r": d_r, "error": error} if delta else {})

    def body(walk, own, others, outputs):
        at = _spot(d_o.shape[3])

        def step(i, tile, sums):
            to = transposed(tile["written"])
            sums = [sums[0] + product((tile["d_o"], to)), *sums[1:]]
            if delta:
                sums[1] += product((tile["d_r"], to))
                sums[2] += (_load(tile["d_r"]) * _load(tile["error"])).sum(1)
            return tuple(sums)

        sums = walk(step, (zeros(), *((zeros(), _nothing()) if delta else ())), at)
        for output, total in zip(outputs, sums, strict=True):
            output[at.batch, at.group, at.chunk] = total

    lead = (d_o.shape[1], d_o.shape[3], d_o.shape[2] // ROWS)
    shapes = [(*lead, ROWS, ROWS)] + [(*lead, ROWS, ROWS), (*lead, ROWS)] * delta
    inputs = {name: frame.Input(x, _Spot.rows, (ROWS, ROWS)) for name, x in given.items()}
    return _call(body, inputs, shapes, d_o, 1, interpret)


def outer(
    d_o: jax.Array, d_r: jax.Array, written: jax.Array, states: jax.Array, d_states: jax.Array, *, delta: bool, interpret: bool
) -> tuple[jax.Array, ...]:
    """do S^T, W D^T and, of the delta rule, dR S^T, [B, G, N, C, K], last the row sums of D S [B, G, N, K]; float32.

    Args:
        d_o, d_r, written: as in `inner`.    states, d_states: [2, B, G, N, K, V].
    """
    rows = {"d_o": d_o, "written": written} | ({"d_r": d_r} if delta else {})

    def body(walk, own, others, outputs):
        at = _spot(d_o.shape[3])

        def step(i, tile, sums):
            states, d_states = tile["states"], tile["d_states"]
            terms = [(tile["d_o"], states), (tile["written"], d_states)] + ([(tile["d_r"], states)] if delta else [])
            products = [total + product((x, transposed(s))) for total, (x, s) in zip(sums, terms, strict=False)]
            return *products, sums[-1] + (_load(states) * _load(d_states)).sum(1)

        sums = walk(step, (*(zeros() for _ in range(2 + delta)), _nothing()), at)
        for output, total in zip(outputs[:-1], sums, strict=False):
            output[at.batch, at.group, at.chunk, :, at.channels] = total
        outputs[-1][at.batch, at.group, at.chunk, at.channels] = sums[-1]

    lead = states.shape[1:4]
    keys = states.shape[4]
    shapes = [(*lead, ROWS, keys)] * (2 + delta) + [(*lead, keys)]
    inputs = {name: frame.Input(x, _Spot.rows, (ROWS, ROWS)) for name, x in rows.items()}
    inputs |= {n: frame.Input(x, _Spot.state, (ROWS, ROWS)) for n, x in (("states", states), ("d_states", d_states))}
    return _call(body, inputs, shapes, d_o, keys // ROWS, interpret)


def _call(body, inputs, shapes, d_o, blocks, interpret):
    _, batch, time, groups, columns = d_o.shape
    grid = {"memory": batch * groups, "chunk": time // ROWS, "block": blocks}
    out_type = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return frame.call(body, inputs, [], out_type, {}, grid=grid, count=columns // ROWS, interpret=interpret)


def _load(parts):
    """A tile in registers, float32."""
    return sum(plgpu.load(parts.at[i], layout=MATRIX).astype(jnp.float32) for i in range(parts.shape[0]))


def _nothing():
    return plgpu.layout_cast(jnp.zeros((ROWS,), jnp.float32), VECTOR)
