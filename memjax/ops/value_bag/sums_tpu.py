"""The sums of runs of sorted reads on a TPU's tensor core: what the gradient of a table is made of (see `gradients`).

    tokens, weights, code [1024]  scalar memory            cotangent [T, V]  device memory, untiled by the grid
        |  eight reads at a time                               |  a copy a read
        v                                                      v
    slot 0 [8, V]   slot 1   slot 2  ...  slot S-1         vector memory: the rows of 8 S reads, a ring
      being added   <---- on their way ---->
        |  weight times row, read by read
        v
    eight [1, V]  ->  block [1, V]  ->  before [1, V]      sums of up to 8 and 1024 reads, and of the blocks before
        |  where code says that a run ends: the sum of the three
        v
    row 0   row 1   ...   row W-1  [1, V]                  vector memory, a ring
      <---- on their way to the rows of the result ---->   result [R, V]  device memory

A grid step takes a block of 1024 reads, the steps one after the other, so that a run goes on over blocks in `before`
and each row is written once, when its run ends. Sums are added in one order, that of the reads, and in three parts, so
that a row that every token reads keeps its digits. Reads of nothing are sorted to the end and start no copy. A slot's
copies are waited for together; a row's write is waited for when its place is used again, W writes later, or at the end.

Rows without reads are zero because the result lies where its zeros lay. XLA fills those at the speed of memory, at most
once more than must be; a kernel that wrote what is between the runs would start a copy for each row of it.

A copy cannot write a single row of bfloat16: two rows share their words of 32 bits. But their runs are neighbours, so
the sum of the lower one is kept, rounded, until that of the upper one is known, and their words are written at once: if
every row is read, 4 M V bytes with the zeros. Sums in float32 that XLA rounds would take 14 M V, and 4 M V of memory. A
cotangent in bfloat16 is widened before: a read brings 4 V bytes in both cases, and 6 T V is little beside 4 T J V.

Memory on chip: `tiling.tpu_sums_vmem`, 184 KiB at V 256; scalar memory 24 KiB. Floor: T J (4 V + 12) bytes in, and a
row of the result for each run out, beside its zeros; 2 T J V operations. As in `pallas_tpu` each copy costs the scalar
core some tens of cycles, which rules where rows are under about 4 KiB. XLA's passes over blocks move each read's row
there and back for the gather, for each of the doublings and for the scatter.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from memjax.ops.mesh import like
from memjax.ops.value_bag import runs, tiling

READS = 1024
"""Of a block."""
GROUP = tiling.SUBLANES
VMEM = 48 * tiling.MIB
"""What the kernel may take on chip."""

NOTHING, KEEP = -1, -2  # codes beside the rows


def refusal(reads: int, cotangent, weights, out) -> str | None:
    """Why the kernel cannot sum this many reads into `out` [R, V]."""
    rows, width = out.shape
    narrow = jnp.float32, jnp.bfloat16
    if out.dtype not in narrow or cotangent.dtype not in narrow or weights.dtype == jnp.float64:
        return "not float32 or bfloat16"
    if width % tiling.LANES:
        return f"V = {width} is no multiple of 128, the lanes of a tile"
    if out.dtype == jnp.bfloat16 and rows % 2:
        return f"M = {rows} is odd; rows of bfloat16 share their words in pairs"
    need = tiling.tpu_sums_vmem(tiling.tpu_sums(width), width)
    if need > VMEM:
        return f"the rows in flight take {need / tiling.MIB:.0f} MiB on chip"
    return None if reads else "there are no reads"


@partial(jax.jit, static_argnames=("interpret",))
def run_sums(target, tokens, weights, cotangent, out, *, interpret):
    """`out` with the sum of each run in its row.

    Args:
        target: the rows of the reads [N], ascending; R and more: none.
        tokens, weights: [N] of the reads.    cotangent: [T, V].    out: [R, V]; rows without reads stay.
        interpret: simulate the TPU on the CPU.
    """
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import tpu as pltpu

    (rows, width), count = out.shape, target.size
    narrow, plan = out.dtype == jnp.bfloat16, tiling.tpu_sums(width)
    blocks = -(-count // READS)
    spare = 0, blocks * READS - count
    pad = lambda x, fill: jnp.pad(x, spare, constant_values=fill).reshape(blocks, 1, READS)
    live = target < rows
    reads = pad(jnp.where(live, tokens, NOTHING), NOTHING), pad(weights.astype(jnp.float32), 0)
    code = pad(jnp.where(live, _code(target, narrow), NOTHING), NOTHING)
    cotangent = cotangent.astype(jnp.float32)
    by_block = pl.BlockSpec((None, 1, READS), lambda i: (i, 0, 0), memory_space=pltpu.SMEM)
    in_place = pl.BlockSpec(memory_space=pl.ANY)
    if narrow and interpret:
        out = _words(out)
    sums = pl.pallas_call(
        _kernel,
        grid=(blocks,),
        in_specs=[by_block, by_block, by_block, in_place, in_place],
        out_specs=in_place,
        out_shape=like(out.shape, out.dtype, *reads, code, cotangent, out),
        input_output_aliases={4: 0},
        scratch_shapes=[
            pltpu.VMEM((plan.slots, GROUP, width), jnp.float32),
            pltpu.VMEM((1, width), jnp.float32),
            pltpu.VMEM((1, width), jnp.float32),
            pltpu.VMEM((1, width), jnp.uint32),
            pltpu.VMEM((plan.writes, width), jnp.uint32 if narrow else jnp.float32),
            pltpu.SMEM((1,), jnp.int32),
            pltpu.SemaphoreType.DMA((plan.slots,)),
            pltpu.SemaphoreType.DMA((plan.writes,)),
        ],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("arbitrary",), vmem_limit_bytes=VMEM),
        interpret=interpret,
        name="run_sums",
    )(*reads, code, cotangent, out)
    return _rows(sums) if narrow and interpret else sums


def _code(target, narrow):
    """What is to be done after a read: its row where the sum is to be written, else KEEP or NOTHING.

    Of rows in pairs the lower one's sum is kept where reads of the upper one follow.
    """
    ends = runs.ends(target)
    if not narrow:
        return jnp.where(ends, target, NOTHING)
    return jnp.where(runs.ends(target >> 1), target, jnp.where(ends, KEEP, NOTHING))


class _Sums(NamedTuple):
    """Sums [1, V] of the run that goes on, the block's groups and the blocks before; the rounded one of a pair's lower
    row."""

    block: Any
    before: Any
    kept: Any


class _Writes(NamedTuple):
    """Rows [W, V], or pairs of them as words, on their way to the result; how many there were; which are gone."""

    rows: Any
    result: Any
    count: Any
    gone: Any


def _kernel(tokens, weights, code, cotangent, _, out, ring, block, before, kept, rows, count, arrived, gone):
    """A block of reads: while a group of them is added up the rows of the next ones are on their way."""
    from jax.experimental import pallas as pl

    groups, slots = tokens.shape[1] // GROUP, ring.shape[0]
    ahead = slots - 1
    there = lambda group: tokens[0, group * GROUP] != NOTHING
    sums = _Sums(block, before, kept)
    writes = _Writes(rows, out.bitcast(jnp.uint32) if out.dtype == jnp.bfloat16 else out, count, gone)

    @pl.when(pl.program_id(0) == 0)
    def _():
        count[0] = 0
        for each in sums:
            each[...] = jnp.zeros(each.shape, each.dtype)

    def step(number, _):
        @pl.when(number < groups)
        def _():
            slot = jax.lax.rem(number, slots)

            @pl.when(there(number))
            def _():
                _fetch(tokens, number, cotangent, ring.at[slot], arrived.at[slot])

        @pl.when(number >= ahead)
        def _():
            group = number - ahead
            slot = jax.lax.rem(group, slots)

            @pl.when(there(group))
            def _():
                _copy(ring.at[slot], ring.at[slot], arrived.at[slot]).wait()
                _add(group, ring.at[slot], weights, code, sums, writes)

    jax.lax.fori_loop(0, groups + ahead, step, None)
    before[...] += block[...]
    block[...] = jnp.zeros(block.shape, block.dtype)

    @pl.when(pl.program_id(0) == pl.num_programs(0) - 1)
    def _():
        @pl.loop(0, jnp.minimum(count[0], gone.shape[0]))
        def _(place):
            row = rows.at[pl.ds(place, 1)]
            _copy(row, row, gone.at[place]).wait()


def _fetch(tokens, group, cotangent, slot, arrived):
    """Starts the copies of a group's rows; a read of nothing beside reads brings any row."""
    from jax.experimental import pallas as pl

    def each(number, _):
        token = jnp.maximum(tokens[0, group * GROUP + number], 0)
        _copy(cotangent.at[pl.ds(token, 1)], slot.at[pl.ds(number, 1)], arrived).start()

    jax.lax.fori_loop(0, GROUP, each, None, unroll=4)


def _add(group, slot, weights, code, sums, writes):
    """Adds up the rows of a group, and finishes the runs that end in it."""
    from jax.experimental import pallas as pl

    def read(number, total):
        at = group * GROUP + number
        total = total + weights[0, at] * slot[pl.ds(number, 1), :]
        ends = code[0, at] != NOTHING

        @pl.when(ends)
        def _():
            _finish(code[0, at], total, sums, writes)

        return jnp.where(ends, jnp.zeros_like(total), total)

    total = jax.lax.fori_loop(0, GROUP, read, jnp.zeros(sums.block.shape, sums.block.dtype))
    sums.block[...] += total  # which `_finish` may have cleared


def _finish(row, total, sums, writes):
    """Writes the sum of a run, or keeps it for its pair; the sums begin anew."""
    from jax.experimental import pallas as pl

    block, before, kept = sums
    total = before[...] + (block[...] + total)
    block[...] = before[...] = jnp.zeros(block.shape, block.dtype)
    if writes.rows.dtype == jnp.float32:
        _write(row, total, writes)
        return

    @pl.when(row == KEEP)
    def _():
        kept[...] = _bits(total)

    @pl.when(row != KEEP)
    def _():
        bits = _bits(total)
        pair = jnp.where((row & 1) == 1, kept[...] | jax.lax.shift_left(bits, jnp.uint32(16)), bits)
        _write(jax.lax.shift_right_logical(row, 1), pair, writes)
        kept[...] = jnp.zeros(kept.shape, kept.dtype)


def _write(row, total, writes):
    """Starts the copy to a row of the result, from the next place of the ring."""
    from jax.experimental import pallas as pl

    rows, result, count, gone = writes
    place = jax.lax.rem(count[0], gone.shape[0])
    source = rows.at[pl.ds(place, 1)]

    @pl.when(count[0] >= gone.shape[0])
    def _():
        _copy(source, source, gone.at[place]).wait()

    source[...] = total
    _copy(source, result.at[pl.ds(row, 1)], gone.at[place]).start()
    count[0] += 1


def _copy(source, target, semaphore):
    from jax.experimental.pallas import tpu as pltpu

    return pltpu.make_async_copy(source, target, semaphore)


def _words(x):
    """[R, V] bfloat16 as [R / 2, V] words, as the chip sees them: an even row in the lower half of each, the next one
    in the upper.

    What interprets kernels has no view of an array as words that can be written to: the simulated chip, and jax 0.10.
    """
    rows, width = x.shape
    return jax.lax.bitcast_convert_type(x.reshape(rows // 2, 2, width).swapaxes(1, 2), jnp.uint32)


def _rows(words):
    """The reverse."""
    pairs, width = words.shape
    return jax.lax.bitcast_convert_type(words, jnp.bfloat16).swapaxes(1, 2).reshape(2 * pairs, width)


def _bits(x):
    """float32 as bfloat16, to the nearest and of two the even one, in the lower half of a word."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    half = jax.lax.shift_right_logical(bits, jnp.uint32(16))
    rounded = jax.lax.shift_right_logical(bits + (half & jnp.uint32(1)) + jnp.uint32(0x7FFF), jnp.uint32(16))
    return jnp.where(x == x, rounded, jnp.uint32(0x7FC0))
