"""What the Hopper kernels of the linear scan compute; tiling, memory and floor are drawn in `pallas_gpu`."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from memjax.ops.linear_scan import marks as marking
from memjax.ops.linear_scan import pairs, tiling
from memjax.ops.linear_scan.gpu_frame import Frame
from memjax.ops.linear_scan.pairs import plus, times
from memjax.ops.linear_scan.tiling import GROUP


def _call(kernel, frame, decay, marks, moving, fixed, out_moving, out_fixed, interpret):
    """The kernel's outputs; `decay` goes where its shape belongs."""
    if decay.shape[1] > 1:
        moving = {"decay": decay, **moving}
    else:
        fixed = {"decay": decay[:, 0], **fixed}
    words = marking.words(marks, frame.batch, frame.time, frame.ring.time, frame.ring.time)
    moving, fixed = ({n: pairs.split(x) for n, x in given.items()} for given in (moving, fixed))
    out_moving, out_fixed = ({n: pairs.parts_of(*x) for n, x in given.items()} for given in (out_moving, out_fixed))
    outputs = frame.call(kernel, moving, fixed, words, out_moving, out_fixed, interpret)
    return [{name: pairs.join(parts) for name, parts in given.items()} for given in outputs]


def forward(decay, x, state, marks, reverse, interpret):
    """h [B, T, D] and the last state [B, D]."""
    batch, time, width = x.shape
    frame = Frame(batch, time, width, tiling.gpu(jnp.iscomplexobj(x), arrays=2), reverse)
    h, last = {"h": (x.shape, x.dtype)}, {"last": (state.shape, state.dtype)}
    moved, ends = _call(_Forward(frame), frame, decay, marks, {"x": x}, {"state": state}, h, last, interpret)
    return moved["h"], ends["last"]


def backward(decay, h, state, marks, d_h, d_last, reverse, interpret):
    """The gradients of decay, x and state, from the forward's h and its cotangents."""
    batch, time, width = h.shape
    constant = decay.shape[1] == 1
    frame = Frame(batch, time, width, tiling.gpu(jnp.iscomplexobj(h), arrays=3), not reverse)
    moving, fixed = {"d_h": d_h, "before": h}, {"state": state, "d_last": d_last}
    of_decay = {"d_decay": (state.shape if constant else h.shape, decay.dtype)}
    out_moving = {"d_x": (h.shape, h.dtype), **({} if constant else of_decay)}
    out_fixed = {"d_state": (state.shape, state.dtype), **(of_decay if constant else {})}
    kernel = _Backward(frame, constant)
    moved, ends = _call(kernel, frame, decay, marks, moving, fixed, out_moving, out_fixed, interpret)
    d_decay = ends["d_decay"][:, None] if constant else moved["d_decay"]
    return d_decay, moved["d_x"], ends["d_state"]


@dataclasses.dataclass(frozen=True)
class _Forward:
    """The carry: h, and as in the blocked form for XLA (start, local, through) of a group."""

    frame: Frame
    name: ClassVar[str] = "linear_scan"

    def first_row(self, name: str, place: Any) -> Any:
        return place * self.frame.ring.time

    def begin(self, fixed):
        return fixed, fixed["state"], _fresh(fixed["state"])

    def block(self, step, place, word, tiles, out, carry):
        fixed, h, sums = carry
        sums = _restart(self.frame, step, h, sums)

        def row(r, carry):
            _, (start, local, through) = carry
            a, code = _decay(tiles, fixed, r, word)
            x = _read(tiles["x"], r)
            if code is not None:
                x = where(code >= marking.PADDING, pairs.constant(0, x), x)
            local, through = plus(times(a, local), x), times(a, through)
            h = plus(local, times(through, start))
            _write(out["h"], r, h)
            return h, (start, local, through)

        return fixed, *self.frame.over_rows(row, (h, sums))

    def end(self, carry):
        return {"last": carry[1]}


@dataclasses.dataclass(frozen=True)
class _Backward:
    """The carry: decay_t g_t, that goes on to the token before; its (start, local, through); and of a constant decay
    the gradient's sum over the tokens up to this group and over those of the group."""

    frame: Frame
    constant: bool
    name: ClassVar[str] = "linear_scan_backward"

    def first_row(self, name: str, place: Any) -> Any:
        row = place * self.frame.ring.time
        if name != "before":
            return row
        # h of the token before; rows before the array's first are not asked for
        return jnp.maximum(row - 1, 0) if self.frame.backwards else row + 1

    def begin(self, fixed):
        zero = pairs.constant(0, fixed["state"])
        return fixed, fixed["d_last"], _fresh(fixed["d_last"]), (zero, zero) if self.constant else ()

    def block(self, step, place, word, tiles, out, carry):
        fixed, on, sums, totals = carry
        sums = _restart(self.frame, step, on, sums)
        if self.constant:
            fresh = _begins_group(self.frame, step)
            total, part = totals
            zero = pairs.constant(0, part)
            totals = plus(total, where(fresh, part, zero)), where(fresh, zero, part)
        row = lambda r, carry: self._row(r, place, word, tiles, out, fixed, carry)
        return fixed, *self.frame.over_rows(row, (on, sums, totals))

    def _row(self, r, place, word, tiles, out, fixed, carry):
        _, (start, local, through), totals = carry
        a, code = _decay(tiles, fixed, r, word)
        local = plus(local, _read(tiles["d_h"], r))  # 0 outside the array
        g = plus(local, times(through, start))
        d_a = times(g, self._before(r, place, tiles["before"], fixed["state"]))
        on = times(a, g)
        if code is not None:
            zero = pairs.constant(0, g)
            d_a, g = where(code == marking.PLAIN, d_a, zero), where(code >= marking.PADDING, zero, g)
        _write(out["d_x"], r, g)
        if self.constant:
            totals = totals[0], plus(totals[1], d_a)
        else:
            _write(out["d_decay"], r, d_a)
        return on, (start, times(a, local), times(a, through)), totals

    def _before(self, r, place, tile, state):
        """h of the token before that in row r; the initial state where there is none."""
        token = place * self.frame.ring.time + r
        if not self.frame.backwards:
            return where(token >= self.frame.time - 1, state, _read(tile, r))
        row = jnp.where(place == 0, jnp.maximum(r - 1, 0), r)
        return where(token == 0, state, _read(tile, row))

    def end(self, carry):
        _, on, _, totals = carry
        return {"d_state": on, **({"d_decay": plus(*totals)} if self.constant else {})}


def where(condition, a, b):
    """By a scalar, which Mosaic does not broadcast by itself."""
    return pairs.where(jnp.broadcast_to(condition, a[0].shape), a, b)


def _fresh(start):
    return start, pairs.constant(0, start), pairs.constant(1, start)


def _begins_group(frame, step):
    return jax.lax.rem(step, GROUP // frame.ring.time) == 0


def _restart(frame, step, state, sums):
    """At the first block of a group: begin from `state`, with nothing summed and nothing decayed."""
    fresh = _begins_group(frame, step)
    return tuple(where(fresh, new, old) for new, old in zip(_fresh(state), sums, strict=True))


def _decay(tiles, fixed, row, word):
    """The decay as the recurrence takes it, and the row's mark or None."""
    a = _read(tiles["decay"], row) if "decay" in tiles else fixed["decay"]
    if word is None:
        return a, None
    code = marking.mark(word, row)
    a = where(code >= marking.PADDING, pairs.constant(1, a), a)
    return where(code == marking.FIRST, pairs.constant(0, a), a), code


def _read(references, row):
    return pairs.each(lambda ref: ref[row].astype(jnp.float32), references)


def _write(references, row, x):
    for ref, part in zip(references, x, strict=True):
        ref[row] = part.astype(ref.dtype)
