"""The sums of runs of sorted reads on a Hopper GPU: what the gradient of a table is made of (see `gradients`).

    sorted reads   | a a a b b c c c c c c c | c c c c c c c c c c c c | c d d e f f f f g g g g | ...
    block           0                         1                         2          128 reads each
    whole runs       a, b -> their rows        none                      d, e, f -> their rows
    open runs        c -> last                 c -> first                c -> first, g -> last

A block of 128 threads, up to 1024 columns, adds weight times cotangent from read to read and writes where a run ends;
nothing depends on the order of the blocks. A run that another block shares goes to one of the block's two places in a
second array, T J / 64 rows, whose runs `gradients` sums in the same way as without the kernel. A row that every token
reads is no block's burden, then, and its sum is made of short sums. More blocks, one for 64 rows of the table, write
zeros where no read writes, so that each row is written once.

Rows in flight: 4 a block, up to 16 blocks a multiprocessor. Shared memory: none. Floor: T J (V size + 12) bytes, of
which the cotangent's T V come from the cache for the most part, and the rows of the table, written.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from memjax.ops import implementations
from memjax.ops.value_bag import runs, tiling

READS = 128
"""Of a block."""
ROUND = 4
"""Rows on their way at once."""
EMPTY = 64
"""Rows of the table that a block looks through for those that were not read."""


class Open(NamedTuple):
    """Runs that several blocks share, two places a block.

    target: their rows [2 N / READS], ascending; sums: [2 N / READS, V], zero at a place without a run.
    """

    target: jax.Array
    sums: jax.Array


def refusal(reads: int, cotangent, weights, out) -> str | None:
    """Why the kernel cannot sum this many reads into `out` [R, V]."""
    if missing := implementations.no_hopper():
        return missing
    narrow = jnp.float32, jnp.bfloat16
    if out.dtype not in narrow or cotangent.dtype not in narrow or weights.dtype == jnp.float64:
        return "not float32 or bfloat16"
    if out.shape[1] % tiling.THREADS:
        return f"V = {out.shape[1]} is no multiple of 128"
    return None if reads else "there are no reads"


def run_sums(target, tokens, weights, cotangent, like, *, interpret) -> tuple[jax.Array, Open]:
    """The sums of whole runs in their rows of [R, V], zeros where there are no reads, and the runs that are open.

    Args:
        target: the rows of the reads [N], ascending; R and more: none.
        tokens, weights: [N] of the reads.    cotangent: [T, V].    like: shape and dtype of the result.
        interpret: simulate the GPU on the CPU.
    """
    rows, count = like.shape[0], target.size
    blocks = -(-count // READS)
    pad = lambda x, fill: jnp.pad(x, (0, blocks * READS - count), constant_values=fill)
    target = jnp.minimum(pad(target, rows), rows)
    code, live, first, last = _plan(target, rows)
    tokens, weights = pad(tokens, 0), pad(weights.astype(jnp.float32), 0)
    read = jnp.zeros(-(-rows // EMPTY) * EMPTY, jnp.int32).at[rows:].set(1).at[target].set(1, mode="drop")
    inputs = tokens, weights, code, live, read, cotangent
    out, sums = _kernel(*inputs, rows=rows, dtype=like.dtype, interpret=interpret)
    shared = jnp.stack([first, last], 1).reshape(-1)
    sums = jnp.where((shared < rows)[:, None], sums.reshape(2 * blocks, -1), 0)
    return out, Open(jax.lax.cummax(jnp.where(shared < rows, shared, -1)), sums)


def _plan(target, rows):
    """For sorted targets [blocks READS] what a block does.

    code [N]: where to write after a read: its row, `rows` and `rows` + 1 for the block's two places, -1 nowhere.
    live [blocks]: reads before those that go nowhere.    first, last [blocks]: rows of the two places, `rows` for none.
    """
    number = jnp.arange(target.size, dtype=jnp.int32)
    begins, ends = runs.begins(target), runs.ends(target)
    from_before = runs.first(begins) < number - number % READS
    place = jnp.where(from_before, rows, jnp.where(ends, target, rows + 1))
    written = (target < rows) & (ends | (number % READS == READS - 1))
    by_block = lambda x: x.reshape(-1, READS)
    own, begins, ends, before = map(by_block, (target, begins, ends, from_before))
    first = jnp.where(begins[:, 0], rows, own[:, 0])
    last = jnp.where(ends[:, -1] | before[:, -1], rows, own[:, -1])
    return jnp.where(written, place, -1), (own < rows).sum(1, dtype=jnp.int32), first, last


@partial(jax.jit, static_argnames=("rows", "dtype", "interpret"))
def _kernel(tokens, weights, code, live, read, cotangent, *, rows, dtype, interpret):
    """[rows, V] but for open runs, and [blocks, 2, V] for those, undefined where there is none."""
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import mosaic_gpu as plgpu

    width, blocks = cotangent.shape[1], live.size
    plan = tiling.gpu_bag(width, cotangent.dtype.itemsize)
    parts = width // plan.columns
    layout = plgpu.Layout.WG_STRIDED((plan.columns,), vec_size=plan.vector)

    def body(tokens, weights, code, live, read, cotangent, out, shared):
        index = jax.lax.axis_index("block")
        block, columns = index // parts, pl.ds(index % parts * plan.columns, plan.columns)
        zeros = plgpu.layout_cast(jnp.zeros((plan.columns,), jnp.float32), layout)

        def write(place, total):
            @pl.when((place >= 0) & (place < rows))
            def _():
                out[place, columns] = total.astype(dtype)

            @pl.when(place >= rows)
            def _():
                shared[block, place - rows, columns] = total

            return jnp.where(place >= 0, zeros, total)

        def add(number, total):
            reads = [block * READS + number * ROUND + j for j in range(ROUND)]
            found = [plgpu.layout_cast(cotangent[tokens[each], columns], layout) for each in reads]
            for each, row in zip(reads, found, strict=True):
                total = write(code[each], total + weights[each] * row.astype(jnp.float32))
            return total

        def clear(number, _):
            row = (block - blocks) * EMPTY + number

            @pl.when(read[row] == 0)
            def _():
                out[row, columns] = zeros.astype(dtype)

        @pl.when(block < blocks)
        def _():
            jax.lax.fori_loop(0, (live[block] + ROUND - 1) // ROUND, add, zeros)

        @pl.when(block >= blocks)
        def _():
            jax.lax.fori_loop(0, EMPTY, clear, None)

    shape = jax.ShapeDtypeStruct
    return plgpu.kernel(
        body,
        out_type=(shape((rows, width), dtype), shape((blocks, 2, width), jnp.float32)),
        grid=((blocks + read.size // EMPTY) * parts,),
        grid_names=("block",),
        compiler_params=plgpu.CompilerParams(
            unsafe_no_auto_barriers=True, lowering_semantics=plgpu.LoweringSemantics.Lane
        ),
        interpret=plgpu.InterpretGPUParams() if interpret else None,  # pyright: ignore[reportAttributeAccessIssue]
        kernel_name="run_sums",
    )(tokens, weights, code, live, read, cotangent)
