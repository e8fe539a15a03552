"""The grid of the Hopper kernels of the linear scan: blocks of rows in a ring of buffers, and the call."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from memjax.ops import mesh
from memjax.ops.linear_scan.tiling import LANES, Ring

UNROLL = 4
"""Rows whose loads from shared memory overlap; with all of a block Mosaic compiles several times as long."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """Attributes:
    batch, time, width: sizes of the arrays.
    ring: sizes of a block, and how many are loaded ahead.
    backwards: whether the blocks, and the rows in them, are walked from the end.
    """

    batch: int
    time: int
    width: int
    ring: Ring
    backwards: bool

    @property
    def steps(self) -> int:
        """Blocks along time."""
        return pl.cdiv(self.time, self.ring.time)

    @property
    def cells(self) -> int:
        """Blocks of the grid that share a row of the batch."""
        return pl.cdiv(self.width, LANES)

    def place(self, step: Any, count: int) -> Any:
        """Where in the array the step of a walk over `count` places stands."""
        return count - 1 - step if self.backwards else step

    def over_rows(self, row: Callable, carry: Any) -> Any:
        """`carry = row(number, carry)` for each row of a block, as they are walked."""
        count = self.ring.time
        return jax.lax.fori_loop(0, count, lambda i, c: row(self.place(i, count), c), carry, unroll=UNROLL)

    def call(
        self,
        kernel: Any,
        moving: dict,
        fixed: dict,
        words: jax.Array | None,
        out_moving: dict,
        out_fixed: dict,
        interpret: Any,
    ) -> Any:
        """Runs a kernel in every block of the grid, one for each row of the batch and 128 channels.

        Args:
            kernel: `begin(fixed)` gives the carry, `block(step, place, word, tiles, out_tiles, carry)` the next one
                and `end(carry)` what `out_fixed` names; `first_row(name, place)` is the row at which a tile begins.
            moving: numbers [B, T, D] that are walked through, by name.
            fixed: numbers [B or 1, D] float32, by name.
            words: the marks of each block [B, steps, 1].
            out_moving, out_fixed: the same of what comes out, as `jax.ShapeDtypeStruct`.
        """
        inputs, outputs = (moving, fixed, words), (out_moving, out_fixed)
        flat, tree = jax.tree.flatten(inputs)
        out_flat, out_tree = jax.tree.flatten(outputs)
        tile = lambda count: lambda x: plgpu.SMEM((count, self.ring.time, LANES), x.dtype)
        line = lambda x: plgpu.SMEM((LANES,), x.dtype)
        scratch = [
            (jax.tree.map(tile(self.ring.ahead), moving), jax.tree.map(line, fixed)),
            (jax.tree.map(tile(Ring.OUT), out_moving), jax.tree.map(line, out_fixed)),
            plgpu.Barrier(num_arrivals=len(jax.tree.leaves(moving)), num_barriers=self.ring.ahead),
            plgpu.Barrier(num_arrivals=len(jax.tree.leaves(fixed))),
        ]

        def entry(*refs):
            sources = jax.tree.unflatten(tree, refs[: len(flat)])
            targets = jax.tree.unflatten(out_tree, refs[len(flat) : len(flat) + len(out_flat)])
            _walk(self, kernel, sources, targets, *refs[len(flat) + len(out_flat) :])

        whole = self.cells * LANES  # of a single row the copy engine does not drop what lies beyond the array
        shapes = [(self.batch, whole) if len(x.shape) == 2 else x.shape for x in out_flat]
        out = plgpu.kernel(
            entry,
            out_type=[jax.ShapeDtypeStruct(shape, x.dtype) for shape, x in zip(shapes, out_flat, strict=True)],
            scratch_types=scratch,
            grid=(self.batch * self.cells,),
            grid_names=("cell",),
            # a thread reads and writes its own channel, so that threads need not meet at every row; they do where a
            # buffer goes to or comes from the copy engine (`commit_smem`, `wait_smem_to_gmem`, `barrier_wait`)
            compiler_params=plgpu.CompilerParams(unsafe_no_auto_barriers=True),
            interpret=_interpreter() if interpret is True else interpret or None,
            kernel_name=kernel.name,
        )(*flat)
        out = mesh.varying_as(out, *flat)  # plgpu.kernel forgets it
        return jax.tree.unflatten(out_tree, [x[:, : self.width] if x.ndim == 2 else x for x in out])


def _interpreter():
    return plgpu.InterpretGPUParams()  # pyright: ignore[reportAttributeAccessIssue]: not before jax 0.11


def _walk(frame, kernel, sources, targets, buffers, out_buffers, arrived, begun):
    steps, (rows, ahead) = frame.steps, (frame.ring.time, min(frame.ring.ahead, frame.steps))
    cell = jax.lax.axis_index("cell")
    batch, channels = jax.lax.div(cell, frame.cells), pl.ds(jax.lax.rem(cell, frame.cells) * LANES, LANES)
    line = lambda x: x.at[0 if x.shape[0] == 1 else batch, channels]

    def word_of(step):
        return None if sources[2] is None else sources[2][batch, frame.place(jnp.minimum(step, steps - 1), steps), 0]

    def load(step):
        slot, place = jax.lax.rem(step, frame.ring.ahead), frame.place(step, steps)
        for name, parts in sources[0].items():
            for source, buffer in zip(parts, buffers[0][name], strict=True):
                there = source.at[batch, pl.ds(kernel.first_row(name, place), rows), channels]
                plgpu.copy_gmem_to_smem(there, buffer.at[slot], arrived.at[slot])

    def store(slot, place):
        def those(count):
            for buffer, out in zip(*map(jax.tree.leaves, (out_buffers[0], targets[0])), strict=True):
                there = out.at[batch, pl.ds(place * rows, count), channels]
                plgpu.copy_smem_to_gmem(buffer.at[slot, pl.ds(0, count)], there, commit_group=False)

        rest = frame.time % rows
        if rest and frame.width == LANES:  # rows without a gap between them are copied beyond T into the next sequence
            jax.lax.cond(place == steps - 1, lambda: those(rest), lambda: those(rows))
        else:
            those(rows)
        plgpu.commit_smem_to_gmem_group()

    def block(step, carry):
        (word, carry), following = carry, word_of(step + 1)  # asked for a block ahead
        slot, out_slot = jax.lax.rem(step, frame.ring.ahead), jax.lax.rem(step, Ring.OUT)
        place = frame.place(step, steps)
        plgpu.barrier_wait(arrived.at[slot])
        plgpu.wait_smem_to_gmem(Ring.OUT - 1, wait_read_only=True)
        of_slot = lambda tree, slot: jax.tree.map(lambda ref: ref.at[slot], tree)
        carry = kernel.block(step, place, word, of_slot(buffers[0], slot), of_slot(out_buffers[0], out_slot), carry)
        plgpu.commit_smem()
        store(out_slot, place)
        pl.when(step + frame.ring.ahead < steps)(lambda: load(step + frame.ring.ahead))
        return following, carry

    jax.tree.map(lambda x, buffer: plgpu.copy_gmem_to_smem(line(x), buffer, begun), sources[1], buffers[1])
    jax.lax.fori_loop(0, ahead, lambda step, _: load(step), None)
    plgpu.barrier_wait(begun)
    carry = kernel.begin(jax.tree.map(lambda ref: ref[...], buffers[1]))
    ends = kernel.end(jax.lax.fori_loop(0, steps, block, (word_of(jnp.int32(0)), carry))[1])

    def put(value, buffer):
        buffer[...] = value

    jax.tree.map(put, ends, out_buffers[1])
    plgpu.commit_smem()
    jax.tree.map(lambda buffer, out: plgpu.copy_smem_to_gmem(buffer, line(out)), out_buffers[1], targets[1])
    plgpu.wait_smem_to_gmem(0)
