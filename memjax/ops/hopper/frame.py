"""The recurrence over chunks on a Hopper GPU: what a matrix memory does in sequence, and the frame of its kernels.

A block of the grid owns 64 value columns of one memory and walks through its chunks of 64 tokens. With S the state
before a chunk, cut into [64, 64] blocks, and with what `Chunks` holds of gates, keys and queries:

              columns of V                  forward:   E = v - k_in S     W = X (beta E)   (linear attention: W = v)
            +----+----+--                              o = q_in S + P W   S <- keep S + k_out^T W
    rows K  | S  |    |     one block of
            +----+----+--   the grid owns   reverse, with D the cotangent of the state behind a chunk:
            | S  |    |     a column of                dW = P^T do + k_out D   dR = X^T dW   dv = beta dR
            +----+----+--   blocks                     D <- keep D + q_in^T do - k_in^T dv

The state stays in registers in float32, K / 64 blocks of 32 registers a thread; its two parts in shared memory are the
operand of the products. A step brings the blocks up to date one by one, each with its parts, so that beside the state
there is room for one sum: at K = 256, 128 of the 255 registers. The loads of the next chunk run under the products of
this one where two chunks fit: forward with the delta rule 171 and 219 of 227 KiB at K = 64 and 128, one chunk 178 and
210 at K = 192 and 256. One such block has a multiprocessor to itself.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from memjax.ops import mesh
from memjax.ops.hopper.tiles import ROWS, put, shared

SHARED_BYTES = 227 * 1024
Shaped = jax.Array | jax.ShapeDtypeStruct
"""An array, or its shape, where bytes are only counted."""
_SPARE = 4096  # barriers, alignment, what the compiler keeps for sums over a warp group


class Chunks(NamedTuple):
    """What the recurrence needs of N chunks of C tokens; operands are led by an axis of 1 part (exact) or 2.

    Attributes:
        q, k_in, k_out: [parts, B, T, H or G, K] bfloat16, the keys that read and those that write; k_out None: k_in.
        p, x: [2, B, G, N, C, C] bfloat16; x None: what is written are the values.
        rows: [B, G, N, 4, C] float32, factors on the rows of q S, of k_in S and of what is written, and beta.
        keep: [B, G, N, K] float32.
    """

    q: jax.Array
    k_in: jax.Array
    k_out: jax.Array | None
    p: jax.Array
    x: jax.Array | None
    rows: jax.Array
    keep: jax.Array


QUERY, READ, WRITE, BETA = range(4)
"""The rows of `Chunks.rows`."""


class Block(NamedTuple):
    """Where a block of the grid stands: row of the batch, value head, key head, its columns of V. The methods give
    chunk n of an array there."""

    batch: Any
    group: Any
    head: Any
    columns: Any

    def keys(self, ref, n, part):
        """Of [parts, B, T, H, K]."""
        return ref.at[part, self.batch, pl.ds(n * ROWS, ROWS), self.head]

    def values(self, ref, n, part):
        """Of [parts, B, T, G, V]."""
        return ref.at[part, self.batch, pl.ds(n * ROWS, ROWS), self.group, self.columns]

    def matrix(self, ref, n, part):
        """Of [parts, B, G, N, C, C]."""
        return ref.at[part, self.batch, self.group, n]

    def vector(self, ref, n, part):
        """Of [B, G, N, ...]."""
        return ref.at[self.batch, self.group, n]

    def state(self, ref, n, part):
        """Of [parts, B, G, N, K, V]."""
        return ref.at[part, self.batch, self.group, n, :, self.columns]


def block(groups: int, heads: int) -> Block:
    """Of this instance of a kernel on the grid of `call`."""
    memory, column = jax.lax.axis_index("memory"), jax.lax.axis_index("column")
    group = jax.lax.rem(memory, groups)
    return Block(jax.lax.div(memory, groups), group, jax.lax.div(group, groups // heads), pl.ds(column * ROWS, ROWS))


class Input(NamedTuple):
    """An input that comes tile by tile: the array, bfloat16 led by parts or float32; what cuts tile i of a part of it
    in this block of the grid (place, reference, i, part); the shape of a tile."""

    array: Shaped
    cut: Callable
    tile: tuple[int, ...]

    @property
    def parts(self) -> int:
        return 1 if self.array.dtype == jnp.float32 else self.array.shape[0]

    def buffer(self, slots: int) -> Any:
        shape = (slots, self.parts, *self.tile)
        wide = self.array.dtype == jnp.float32
        vectors = wide and self.tile != (ROWS, ROWS)
        return plgpu.SMEM(shape, jnp.float32) if vectors else shared(*shape, dtype=self.array.dtype)

    def bytes(self) -> int:
        return math.prod(self.tile) * self.parts * self.array.dtype.itemsize


def keys(x: Shaped) -> Input:
    """Of [parts, B, T, H, K], a chunk of the block's key head."""
    return Input(x, Block.keys, (ROWS, x.shape[-1]))


def values(x: Shaped) -> Input:
    """Of [parts, B, T, G, V], a chunk of the block's value head, its 64 columns."""
    return Input(x, Block.values, (ROWS, ROWS))


def matrix(x: Shaped) -> Input:
    """Of [parts, B, G, N, C, C], a chunk's matrix."""
    return Input(x, Block.matrix, (ROWS, ROWS))


def vector(x: Shaped) -> Input:
    """Of [B, G, N, ...] float32, a chunk's numbers."""
    return Input(x, Block.vector, x.shape[3:])


def call(
    body: Callable,
    inputs: dict[str, Input],
    others: Sequence[jax.Array],
    out_type: Sequence[Any],
    own: dict[str, tuple[int, ...]],
    *,
    grid: dict[str, int],
    count: int,
    interpret: Any,
    fixed: dict[str, Input] | None = None,
    by_lane: bool = False,
) -> Any:
    """Runs `body(walk, own, others, outputs)` in every block of the grid.

    Args:
        body: `walk(step, state, place, reverse=False)` runs `state = step(i, tiles, state)` over the tiles i, where
            `tiles` is a dictionary of the inputs' shared buffers; `own` the buffers that the body works in, and, free
            when the walk is over, those of a tile; `others` and `outputs` are references to global memory.
        inputs: what is loaded tile by tile.
        own: shapes of bfloat16 buffers.
        grid: names and sizes of its axes.
        count: tiles.
        interpret: whether to simulate the GPU, or the simulator's parameters.
        fixed: what is loaded once, as if it were tile 0; it stands in `own` when the walk is over.
        by_lane: lower it with layouts as they are named; else these are searched for, which takes minutes where masks
            are many.
    """
    slots = 1 if count == 1 else _slots(*(shared_bytes(inputs, own, n, fixed) for n in (1, 2)))
    loaded = [(inputs, slots), (fixed or {}, 1)]
    scratch = [{name: x.buffer(n) for name, x in some.items()} for some, n in loaded]
    scratch += [{name: shared(*shape) for name, shape in own.items()}]
    scratch += [plgpu.Barrier(num_arrivals=max(1, _copies(some)), num_barriers=n) for some, n in loaded]
    operands = [*(x.array for some, _ in loaded for x in some.values()), *others]

    def entry(*refs):
        sources, rest, outputs = _cut(refs, len(operands) - len(others), len(others), len(out_type))
        *buffers, own, arrived, settled = refs[len(operands) + len(out_type) :]
        sources, moving, still = iter(sources), *({}, {})
        for (some, _), kind, buffer in zip(loaded, (moving, still), buffers, strict=True):
            kind |= {name: (x.cut, next(sources), buffer[name]) for name, x in some.items()}
        walk = _walk(moving, arrived, still, settled, count, slots)
        body(walk, own | {name: buffer.at[0] for name, (_, _, buffer) in (moving | still).items()}, rest, outputs)

    semantics = plgpu.LoweringSemantics.Lane if by_lane else plgpu.LoweringSemantics.Warpgroup
    outputs = plgpu.kernel(
        entry,
        out_type=tuple(out_type),
        scratch_types=scratch,
        grid=tuple(grid.values()),
        grid_names=tuple(grid),
        compiler_params=plgpu.CompilerParams(lowering_semantics=semantics),
        interpret=_simulator(interpret),
    )(*operands)
    # to a kernel the manual axes of a `jax.shard_map` are nothing, so its outputs do not name them
    return tuple(mesh.varying_as(outputs, *operands))


def shared_bytes(inputs: dict[str, Input], own: dict[str, tuple[int, ...]], slots: int, fixed=None) -> int:
    """Shared memory that a kernel takes with this many tiles loaded at a time."""
    buffers = sum(2 * math.prod(shape) for shape in own.values())
    buffers += sum(x.bytes() for x in (fixed or {}).values())
    return slots * sum(x.bytes() for x in inputs.values()) + buffers + _SPARE


def _simulator(interpret: Any) -> Any:
    if interpret is True:
        return plgpu.InterpretGPUParams()  # pyright: ignore[reportAttributeAccessIssue]  (not in an older jax)
    return interpret or None


def _slots(one: int, two: int) -> int:
    """Two tiles at a time, so that one is loaded while the other is worked on; one where two do not fit, or where two
    blocks of the grid then share a multiprocessor, which serves the same end."""
    return 2 if two <= SHARED_BYTES and not one <= SHARED_BYTES / 2 < two else 1


def _copies(inputs):
    return sum(x.parts for x in inputs.values())


def _cut(refs, *sizes):
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [refs[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def _walk(moving, arrived, still, settled, count, slots):
    def walk(step, state, at, reverse=False):
        nth = lambda i: count - 1 - i if reverse else i

        def load(i, inputs, slot, barrier):
            for cut, source, buffer in inputs.values():
                for part in range(buffer.shape[1]):
                    plgpu.copy_gmem_to_smem(cut(at, source, i, part), buffer.at[slot, part], barrier.at[slot])

        def next_tile(i):
            load(nth(i), moving, jax.lax.rem(i, slots), arrived)

        def body(i, state):
            slot = jax.lax.rem(i, slots)
            # what the last step read may be overwritten by the copies that begin here; what it put is an operand
            plgpu.commit_smem()
            if slots == 1:
                next_tile(i)
            plgpu.barrier_wait(arrived.at[slot])
            if slots > 1:
                pl.when(i + 1 < count)(lambda: next_tile(i + 1))
            plgpu.wait_smem_to_gmem(0, wait_read_only=True)  # what the last step stored is free again
            tiles = {name: buffer.at[slot] for name, (_, _, buffer) in moving.items()}
            return step(nth(i), tiles, state)

        load(0, still, 0, settled)
        if slots > 1:
            next_tile(jnp.int32(0))
        state = jax.lax.fori_loop(0, count, body, state)
        if still:
            plgpu.barrier_wait(settled.at[0])
        plgpu.wait_smem_to_gmem(0)
        plgpu.commit_smem()  # all of the tiles is read
        return state

    return walk


def store(source: Any, target: Callable) -> None:
    """Copies the parts of a shared buffer to where `target(part)` says; the next step waits for it."""
    for part in range(source.shape[0]):
        plgpu.copy_smem_to_gmem(source.at[part], target(part))


def send(buffer: Any, x: jax.Array, target: Callable) -> None:
    """Stores x of the registers where `target(part)` says, by way of a shared buffer that is free."""
    put(buffer, x)
    plgpu.commit_smem()
    store(buffer, target)
