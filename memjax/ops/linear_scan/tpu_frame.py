"""The grid of the TPU kernels of the linear scan, its blocks, and the call."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from memjax.ops import mesh
from memjax.ops.linear_scan import marks as marking
from memjax.ops.linear_scan import pairs
from memjax.ops.linear_scan.tiling import GROUP, LANES, VMEM, Blocks

ROWS = 8
"""Rows of a register."""
TILES = GROUP // ROWS
"""Registers one below the other in a group."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """Attributes:
    batch, time, width: sizes of the arrays.
    blocks: sizes of a block.
    backwards: whether the blocks, and the rows in them, are walked from the end.
    """

    batch: int
    time: int
    width: int
    blocks: Blocks
    backwards: bool

    @property
    def steps(self) -> int:
        """Blocks along time."""
        return pl.cdiv(self.time, self.blocks.time)

    @property
    def lanes(self) -> int:
        """Channels that are computed at a time."""
        return min(self.blocks.lanes, LANES)

    def place(self, step: Any, count: int) -> Any:
        """Where in the array the step of a walk over `count` places stands."""
        return count - 1 - step if self.backwards else step

    def full(self) -> pl.BlockSpec:
        """Of an array [B, T, D]."""
        index = lambda b, d, t: (b, self.place(t, self.steps), d)
        return pl.BlockSpec((None, self.blocks.time, self.blocks.lanes), index)

    def row(self, batch: int | None = None) -> pl.BlockSpec:
        """Of an array [B, 1, D], or [1, 1, D] with `batch` = 1."""
        index = lambda b, d, t: (0 if batch == 1 else b, 0, d)
        return pl.BlockSpec((None, 1, self.blocks.lanes), index)

    def beyond(self, rows: int) -> pl.BlockSpec:
        """Of an array [B, T, D], the `rows` rows that the walk comes to behind the block, or else some others."""

        def index(b, d, t):
            here = self.place(t, self.steps) * (self.blocks.time // rows)
            there = here - 1 if self.backwards else here + self.blocks.time // rows
            return b, jnp.clip(there, 0, pl.cdiv(self.time, rows) - 1), d

        return pl.BlockSpec((None, rows, self.blocks.lanes), index)

    def marks(self, marks: jax.Array | None) -> tuple[jax.Array | None, pl.BlockSpec | None]:
        """Marks as scalars, those of 8 rows in a word."""
        words = marking.words(marks, self.batch, self.time, self.blocks.time, ROWS)
        if words is None:
            return None, None
        index = lambda b, d, t: (b, self.place(t, self.steps), 0, 0)
        return words[:, :, None], pl.BlockSpec((None, None, 1, words.shape[-1]), index, memory_space=pltpu.SMEM)

    def scratch(self, rows: int, like: jax.Array) -> pairs.Number:
        """Numbers [rows, lanes] that stay on chip from block to block."""
        return tuple(pltpu.VMEM((rows, self.blocks.lanes), jnp.float32) for _ in range(1 + jnp.iscomplexobj(like)))

    def call(
        self,
        name: str,
        body: Callable,
        inputs: Sequence[tuple[jax.Array | None, pl.BlockSpec | None]],
        outputs: Sequence[tuple[Sequence[int], Any, pl.BlockSpec]],
        scratch: Sequence[Any],
        interpret: Any,
    ) -> list[jax.Array]:
        """Runs `body(frame, *inputs, *outputs, *scratch)`, each a tuple of references, () for an absent input.

        Args:
            inputs: array and block of each; the block is one of all its parts.
            outputs: shape, dtype and block of each.
        """
        operands = [() if x is None else pairs.split(x) for x, _ in inputs]
        varying = [part for parts in operands for part in parts]
        parts_of = lambda *x: pairs.each(lambda part: mesh.like(part.shape, part.dtype, *varying), pairs.parts_of(*x))
        shapes = [parts_of(shape, dtype) for shape, dtype, _ in outputs]
        out = pl.pallas_call(
            lambda *references: body(self, *references),
            grid=(self.batch, pl.cdiv(self.width, self.blocks.lanes), self.steps),
            in_specs=[(spec,) * len(x) for x, (_, spec) in zip(operands, inputs, strict=True)],
            out_specs=[(spec,) * len(x) for x, (_, _, spec) in zip(shapes, outputs, strict=True)],
            out_shape=shapes,
            scratch_shapes=list(scratch),
            compiler_params=pltpu.CompilerParams(
                dimension_semantics=("parallel", "parallel", "arbitrary"), vmem_limit_bytes=VMEM
            ),
            interpret=interpret,
            name=name,
        )(*operands)
        return [pairs.join(parts) for parts in out]

    def over_columns(self, column: Callable) -> None:
        """Calls `column(channels)` for each set of lanes of the block, `channels` being their slice."""

        def run(i, _):
            start = 0 if self.blocks.lanes == self.lanes else pl.multiple_of(i * self.lanes, self.lanes)
            column(pl.ds(start, self.lanes))

        jax.lax.fori_loop(0, self.blocks.lanes // self.lanes, run, None)

    def over_groups(self, group: Callable, carry: Any) -> Any:
        """`carry = group(number, carry)` for each group of the block, as they are walked."""
        count = self.blocks.time // GROUP
        return jax.lax.fori_loop(0, count, lambda i, carry: group(self.place(i, count), carry), carry)


def rows_of(group: Any) -> Any:
    """The slice of a group's rows."""
    return pl.ds(pl.multiple_of(group * GROUP, GROUP), GROUP)
