"""What the TPU kernels of the linear scan compute; tiling, memory and floor are drawn in `pallas_tpu`."""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from memjax.ops.linear_scan import marks as marking
from memjax.ops.linear_scan import pairs, tiling
from memjax.ops.linear_scan.pairs import plus, times, where
from memjax.ops.linear_scan.tpu_frame import ROWS, TILES, Frame, rows_of


def _frame(decay, x, arrays, backwards):
    """`arrays`: those of decay's and of x's dtype that a kernel reads and writes as a whole."""
    of_decay, of_x = arrays
    bytes_each = (decay.shape[1] > 1) * of_decay * decay.dtype.itemsize + of_x * x.dtype.itemsize
    batch, time, width = x.shape
    return Frame(batch, time, width, tiling.tpu(batch, time, width, bytes_each), backwards)


def forward(decay, x, state, marks, reverse, interpret):
    """h [B, T, D] and the last state [B, D]."""
    frame = _frame(decay, x, (1, 2), reverse)
    batch, _, width = x.shape
    of_decay = frame.row(decay.shape[0]) if decay.shape[1] == 1 else frame.full()
    inputs = [(decay, of_decay), (x, frame.full()), (state[:, None], frame.row()), frame.marks(marks)]
    outputs = [(x.shape, x.dtype, frame.full()), ((batch, 1, width), state.dtype, frame.row())]
    h, last = frame.call("linear_scan", _forward, inputs, outputs, [frame.scratch(1, x)], interpret)
    return h, last[:, 0]


def _forward(frame, decay, x, state, marks, h, last, carry):
    step = pl.program_id(2)

    @pl.when(step == 0)
    def _():
        _copy(state, carry)

    def column(channels):
        def group(number, start):
            rows = rows_of(number)
            a, u = _decay(decay, rows, channels), _read(x, rows, channels)
            if marks:
                codes = _codes(marks[0], number, frame.lanes)
                a, u = _marked(a, codes), where(codes >= marking.PADDING, pairs.constant(0, u), u)
            through, local = _scan_tiles(a, u, frame.backwards)
            begins, start = _join_tiles(through, local, start, frame.backwards)
            _write(h, rows, channels, plus(local, times(through, begins)))
            return start

        _put(carry, channels, frame.over_groups(group, _row(carry, channels)))

    frame.over_columns(column)

    @pl.when(step == frame.steps - 1)
    def _():
        _copy(carry, last)


def backward(decay, h, state, marks, d_h, d_last, reverse, interpret):
    """The gradients of decay, x and state, from the forward's h and its cotangents."""
    frame = _frame(decay, h, (2, 3), not reverse)
    batch, _, width = h.shape
    constant = decay.shape[1] == 1
    row = ((batch, 1, width), state.dtype, frame.row())
    of_decay = frame.row(decay.shape[0]) if constant else frame.full()
    packed = ROWS * 4 // min(4, h.dtype.itemsize)  # rows of a register of this dtype
    inputs = [
        *((decay, of_decay), (h, frame.full()), (h, frame.beyond(packed)), (state[:, None], frame.row())),
        *(frame.marks(marks), (d_h, frame.full()), (d_last[:, None], frame.row())),
    ]
    outputs = [row if constant else (h.shape, decay.dtype, frame.full()), (h.shape, h.dtype, frame.full()), row]
    scratch = [frame.scratch(1, h), frame.scratch(ROWS, h) if constant else ()]
    d_decay, d_x, d_state = frame.call("linear_scan_backward", _backward, inputs, outputs, scratch, interpret)
    return d_decay, d_x, d_state[:, 0]


def _backward(frame, decay, h, beyond, state, marks, d_h, d_last, d_decay, d_x, d_state, carry, total):
    """c_t = decay_t g_t, what goes on to the token before, is the scan of decay_t dh_t, and g_t = dh_t + c_{t+1}."""
    step, constant = pl.program_id(2), bool(total)

    @pl.when(step == 0)
    def _():
        _copy(d_last, carry)
        for part in total:
            part[...] = jnp.zeros_like(part)

    def column(channels):
        def group(number, carried):
            start, summed = carried
            rows = rows_of(number)
            a, d, before = _decay(decay, rows, channels), _read(d_h, rows, channels), _read(h, rows, channels)
            if marks:
                codes = _codes(marks[0], number, frame.lanes)
                a, d = _marked(a, codes), where(codes == marking.OUTSIDE, pairs.constant(0, d), d)
                before = where(codes == marking.OUTSIDE, _row(state, channels), before)
            before = _shift(
                before, not frame.backwards, _edges(frame, step, number, channels, before, h, beyond, state)
            )
            through, local = _scan_tiles(a, times(a, d), frame.backwards)
            begins, start = _join_tiles(through, local, start, frame.backwards)
            g = plus(d, _shift(plus(local, times(through, begins)), frame.backwards, begins))
            d_a = times(g, before)
            if marks:
                d_a = where(codes == marking.PLAIN, d_a, pairs.constant(0, d_a))
                g = where(codes >= marking.PADDING, pairs.constant(0, g), g)
            _write(d_x, rows, channels, g)
            if not constant:
                _write(d_decay, rows, channels, d_a)
                return start, summed
            return start, plus(summed, pairs.each(lambda part: part.sum(0), d_a))

        zeros = tuple(jnp.zeros((ROWS, frame.lanes), jnp.float32) for _ in total)
        start, summed = frame.over_groups(group, (_row(carry, channels), zeros))
        _put(carry, channels, start)
        for part, more in zip(total, summed, strict=True):
            part[:, channels] += more

    frame.over_columns(column)

    @pl.when(step == frame.steps - 1)
    def _():
        _copy(carry, d_state)
        for part, out in zip(total, d_decay, strict=False):
            out[...] = part[...].sum(0, keepdims=True)


def _edges(frame, step, number, channels, h, references, beyond, state):
    """For each tile of h the row that the walk meets behind it, or the initial state: [TILES, 1, lanes]."""
    packed, tokens = beyond[0].shape[0], frame.blocks.time
    last = packed - 1 if frame.backwards else 0  # of the rows behind, the one that is next
    following = number * (TILES * ROWS) + (-1 if frame.backwards else TILES * ROWS)
    start = jnp.clip(following - last, 0, tokens - packed)
    behind = pl.ds(pl.multiple_of(start, packed), packed)
    inside = (following >= 0) & (following < tokens)
    token = frame.place(step, frame.steps) * tokens + following
    exists = (token >= 0) & (token < frame.time)

    def edges(h, reference, beyond, state):
        row = lambda ref, rows: ref[rows, channels].astype(jnp.float32)[last : last + 1]
        row = jnp.where(inside, row(reference, behind), row(beyond, slice(None)))
        row = jnp.where(exists, row, state[:, channels])[None]
        return jnp.concatenate([row, h[:-1, -1:]] if frame.backwards else [h[1:, :1], row])

    return pairs.each(edges, h, references, beyond, state)


def _scan_tiles(a, u, backwards):
    """Each tile's products of decays and its scan from zero, along its rows."""
    row = jax.lax.broadcasted_iota(jnp.int32, u[0].shape, 1)
    zero, one = pairs.constant(0, u), pairs.constant(1, a)
    for distance in (1, 2, 4):
        inside = row < ROWS - distance if backwards else row >= distance
        by = ROWS - distance if backwards else distance
        rolled = lambda x, fill: where(inside, pairs.each(lambda part: pltpu.roll(part, by, 1), x), fill)  # noqa: B023
        u = plus(u, times(a, rolled(u, zero)))
        a = times(a, rolled(a, one))
    return a, u


def _join_tiles(through, local, start, backwards):
    """The state that each tile begins with [TILES, 1, lanes], and the one after the last.

    The tiles are summed from zero; `start` is added once for each of them, and what goes on is rounded once a group.
    """
    end = 0 if backwards else ROWS - 1
    summed, passed = pairs.constant(0, start), pairs.constant(1, start)
    begins = [start] * TILES
    for tile in reversed(range(TILES)) if backwards else range(TILES):
        begins[tile] = plus(summed, times(passed, start))
        a, u = (pairs.each(lambda part: part[tile, end : end + 1], x) for x in (through, local))  # noqa: B023
        summed, passed = plus(u, times(a, summed)), times(a, passed)
    stacked = tuple(jnp.stack(parts) for parts in zip(*begins, strict=True))
    return stacked, plus(summed, times(passed, start))


def _shift(x, backwards, edges):
    """Each row from the one before it in this direction, the first of a tile from `edges`."""
    row = jax.lax.broadcasted_iota(jnp.int32, x[0].shape, 1)
    rolled = pairs.each(lambda part: pltpu.roll(part, ROWS - 1 if backwards else 1, 1), x)
    return where(row == (ROWS - 1 if backwards else 0), edges, rolled)


def _codes(words, number, lanes):
    """The marks of a group, [TILES, ROWS, lanes]."""
    row = jax.lax.broadcasted_iota(jnp.int32, (ROWS, lanes), 0)
    return jnp.stack([marking.mark(words[0, number * TILES + tile], row) for tile in range(TILES)])


def _marked(a, codes):
    one = where(codes >= marking.PADDING, pairs.constant(1, a), a)
    return where(codes == marking.FIRST, pairs.constant(0, a), one)


def _decay(references, rows, channels):
    if references[0].shape[0] > 1:
        return _read(references, rows, channels)
    shape = (TILES, ROWS, channels.size)
    return pairs.each(lambda row: jnp.broadcast_to(row[None], shape), _row(references, channels))


def _read(references, rows, channels):
    """A group as [TILES, ROWS, lanes] in float32."""
    return pairs.each(lambda ref: ref[rows, channels].astype(jnp.float32).reshape(TILES, ROWS, -1), references)


def _write(references, rows, channels, x):
    for ref, part in zip(references, x, strict=True):
        ref[rows, channels] = part.reshape(TILES * ROWS, -1).astype(ref.dtype)


def _row(references, channels):
    return pairs.each(lambda ref: ref[:, channels], references)


def _put(references, channels, row):
    for ref, part in zip(references, row, strict=True):
        ref[:, channels] = part


def _copy(source, target):
    for ref, out in zip(source, target, strict=True):
        out[...] = ref[...]
