"""The value bag and its dots on a TPU's tensor core: rows by asynchronous copies, many in flight, none kept.

    indices [tokens, J]  scalar memory            table [M, V]  device memory, untiled by the grid
        |  token by token                             |  a copy a row
        v                                             v
    slot 0 [J, V]   slot 1   slot 2  ...  slot S-1    vector memory: the rows of S tokens, a ring
      being read    <---- on their way ---->
        |
        |   w [J, tokens] one column of it, across the lanes          x [tokens, V] one row of it, down the sublanes
        v                                                                |
    bag:  o[t] = sum over the sublanes of w rows                   dots: s[:, t] = sum over the lanes of rows x

A grid step takes `tokens` tokens, 128 where there are as many: they are the lanes of w and s, so neither is transposed
in the kernel. A row's copy is 4 V bytes, which lie in V / 128 pieces of 512 bytes in the (8, 128) tiles of the table. A
bfloat16 table is read as 32-bit words, each of which holds a column of two neighbouring rows (a single row of 16-bit
numbers is refused: copies begin at whole words and whole tiles), so a read brings 4 V bytes there too. Where V is no
multiple of 128 XLA may keep the table by columns (4M x 64 in float32: it does on v5e, v5p and v6e) and copies all of it
for a kernel, as it does for its own gather; such tables are refused. Indices that read nothing start no copy; zeros are
put in their place. The copies of a token are waited for together.

Memory on chip: `tiling.tpu_vmem`, 4 MiB at J 128, V 256; scalar memory 2 x 4 tokens J bytes. Floor: 4 T J V bytes of
rows and 8 T J + 4 T V of the rest, against 2 T J V operations: the copies rule. Beside the floor in bytes stands one in
copies: each costs the scalar core some tens of cycles to start, so rows under about 4 KiB are bound by that.

A SparseCore, which v5p and v6e have, would start the copies of many rows with one instruction. What stands in the way:
its mesh (`plsc.VectorSubcoreMesh`) asks which chip it is made for when the program is traced, so that it cannot be one
of the branches that are traced on every host (it raises on a CPU, where programs are compiled ahead of time, and on a
v5e), while "tpu" is all that a branch can be chosen by.
"""

from functools import partial

import jax
import jax.numpy as jnp

from memjax.ops.mesh import like
from memjax.ops.value_bag import gradients, tiling

VMEM = 48 * tiling.MIB
"""What the kernel may take on chip; v5e, v5p and v6e compile it."""


def refusal(values, indices, other) -> str | None:
    """Why the kernels cannot serve a table [M, V], indices [T, J], and weights or x."""
    rows, width = values.shape[-2:]
    if values.dtype not in (jnp.float32, jnp.bfloat16):
        return f"values are {values.dtype}, not float32 or bfloat16"
    if gradients.wide(values, other) != jnp.float32:
        return "sums are float64"
    if width % tiling.LANES:
        return f"V = {width} is no multiple of 128, the lanes of a tile"
    if values.dtype == jnp.bfloat16 and rows % 2:
        return f"M = {rows} is odd; rows of bfloat16 share their words in pairs"
    need = tiling.tpu_vmem(tiling.tpu(tiling.LANES, indices.shape[-1], width), width)
    return f"two tokens of J V numbers take {need / tiling.MIB:.0f} MiB on chip" if need > VMEM else None


@partial(jax.jit, static_argnames=("dtype", "interpret"))
def value_bag(values, indices, weights, *, dtype, interpret):
    """values [M, V]; indices [T, J] in 0 .. M, where M reads nothing; weights [T, J] float32. [T, V] in `dtype`."""
    from jax.experimental import pallas as pl

    call = _Call(values, indices)
    out = pl.BlockSpec((call.plan.tokens, call.width), lambda i: (i, 0))
    shape = like((call.tokens, call.width), dtype, values, indices, weights)
    o = call(_bag_step, call.by_lane(weights), call.by_lane_spec, shape, out, interpret, "value_bag")
    return o[: indices.shape[0]]


@partial(jax.jit, static_argnames=("interpret",))
def row_dots(values, indices, x, *, interpret):
    """values and indices as above; x [T, V] float32. Returns [T, J] in float32."""
    from jax.experimental import pallas as pl

    call = _Call(values, indices)
    x = jnp.pad(x, ((0, call.tokens - x.shape[0]), (0, 0)))
    x_spec = pl.BlockSpec((call.plan.tokens, call.width), lambda i: (i, 0))
    shape = like((call.steps, call.plan.bag, call.plan.tokens), jnp.float32, values, indices, x)
    s = call(_dots_step, x, x_spec, shape, call.by_lane_spec, interpret, "row_dots")
    return s.transpose(0, 2, 1).reshape(call.tokens, -1)[: indices.shape[0], : indices.shape[1]]


class _Call:
    """What both kernels bring in: the table where it lies, the indices of a step, and whether a word's upper half."""

    def __init__(self, values, indices):
        from jax.experimental import pallas as pl
        from jax.experimental.pallas import tpu as pltpu

        count, bag = indices.shape
        self.rows, self.width = values.shape
        self.plan = plan = tiling.tpu(count, bag, self.width)
        self.steps = max(1, -(-count // plan.tokens))
        self.tokens = self.steps * plan.tokens
        self.values = values
        spare = ((0, self.tokens - count), (0, plan.bag - bag))
        self.indices = jnp.pad(indices, spare, constant_values=self.rows)
        self.by_lane_spec = pl.BlockSpec((None, plan.bag, plan.tokens), lambda i: (i, 0, 0))
        self.index_spec = pl.BlockSpec((plan.tokens, plan.bag), lambda i: (i, 0), memory_space=pltpu.SMEM)
        self.table_spec = pl.BlockSpec(memory_space=pl.ANY)

    def by_lane(self, x):
        """[T, J] as [steps, J, tokens]."""
        spare = ((0, self.tokens - x.shape[0]), (0, self.plan.bag - x.shape[1]))
        return jnp.pad(x, spare).reshape(self.steps, self.plan.tokens, self.plan.bag).transpose(0, 2, 1)

    def __call__(self, step, other, other_spec, out_shape, out_spec, interpret, name):
        from jax.experimental import pallas as pl
        from jax.experimental.pallas import tpu as pltpu

        plan, narrow = self.plan, self.values.dtype == jnp.bfloat16
        inputs, in_specs = [self.indices, self.values, other], [self.index_spec, self.table_spec, other_spec]
        if narrow:
            inputs.append(self.by_lane((self.indices & 1).astype(jnp.float32)))
            in_specs.append(self.by_lane_spec)
        return pl.pallas_call(
            partial(_kernel, step=step, rows=self.rows, narrow=narrow),
            grid=(self.steps,),
            in_specs=in_specs,
            out_specs=out_spec,
            out_shape=out_shape,
            scratch_shapes=[
                pltpu.VMEM((plan.slots, plan.bag, self.width), jnp.uint32 if narrow else jnp.float32),
                pltpu.VMEM((plan.tokens if step is _bag_step else tiling.SUBLANES, self.width), jnp.float32),
                pltpu.SMEM((plan.slots,), jnp.int32),
                pltpu.SemaphoreType.DMA((plan.slots,)),
            ],
            compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",), vmem_limit_bytes=VMEM),
            interpret=interpret,
            name=name,
        )(*inputs)


def _kernel(indices, table, other, *refs, step, rows, narrow):
    """The tokens of a grid step: while one is worked on the rows of the next ones are on their way."""
    from jax.experimental import pallas as pl

    upper, out, ring, total, started, arrived = refs if narrow else (None, *refs)
    tokens, slots = indices.shape[0], ring.shape[0]

    ahead = slots - 1

    def each(number, _):
        @pl.when(number < tokens)
        def _():
            slot = jax.lax.rem(number, slots)
            _fetch(indices, number, table, ring.at[slot], started.at[slot], arrived.at[slot], rows, narrow)

        @pl.when(number >= ahead)
        def _():
            token = number - ahead
            slot = jax.lax.rem(token, slots)
            _wait(ring.at[slot], started[slot], arrived.at[slot])
            step(token, ring.at[slot], other, upper, out, total)

    jax.lax.fori_loop(0, tokens + ahead, each, None)
    if step is _bag_step:
        out[...] = total[...].astype(out.dtype)


def _fetch(indices, token, table, slot, started, arrived, rows, narrow):
    """Starts the copies of a token's rows and says how many they are; what reads nothing becomes zeros."""
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import tpu as pltpu

    words = table.bitcast(jnp.uint32) if narrow else table

    def each(j, count):
        row = indices[token, j]
        reads = row < rows
        place = slot.at[pl.ds(j, 1)]

        @pl.when(reads)
        def _():
            at = jax.lax.shift_right_logical(row, 1) if narrow else row
            pltpu.make_async_copy(words.at[pl.ds(at, 1)], place, arrived).start()

        @pl.when(jnp.logical_not(reads))
        def _():
            place[...] = jnp.zeros(place.shape, place.dtype)

        return count + reads.astype(jnp.int32)

    started[...] = jax.lax.fori_loop(0, indices.shape[1], each, 0, unroll=4)


def _wait(slot, started, arrived):
    """Until `started` rows have come; all of a token's at once, where it has no read of nothing."""
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import tpu as pltpu

    bag = slot.shape[0]
    every, one = (pltpu.make_async_copy(part, part, arrived) for part in (slot, slot.at[pl.ds(0, 1)]))

    @pl.when(started == bag)
    def _():
        every.wait()

    @pl.when(started < bag)
    def _():
        jax.lax.fori_loop(0, started, lambda _, none: one.wait(), None)


def _bag_step(token, slot, weights, upper, out, total):
    """Eight rows at a time into eight partial sums, which are summed at the end."""
    from jax.experimental import pallas as pl

    def add(group, sums):
        return sums + _column(weights, group, token) * _rows(slot, group, upper, token)

    start = jnp.zeros((tiling.SUBLANES, slot.shape[1]), jnp.float32)
    sums = jax.lax.fori_loop(0, slot.shape[0] // tiling.SUBLANES, add, start)
    total[pl.ds(token, 1), :] = sums.sum(axis=0, keepdims=True)


def _dots_step(token, slot, x, upper, out, total):
    """Eight products at a time, put into the token's lane."""
    from jax.experimental import pallas as pl

    own = x[pl.ds(token, 1), :]

    def put(group, _):
        s = (_rows(slot, group, upper, token) * own).sum(axis=1, keepdims=True)
        at = pl.ds(group * tiling.SUBLANES, tiling.SUBLANES)
        lane = jax.lax.broadcasted_iota(jnp.int32, (tiling.SUBLANES, out.shape[1]), 1)
        out[at, :] = jnp.where(lane == token, s, out[at, :])
        return 0

    jax.lax.fori_loop(0, slot.shape[0] // tiling.SUBLANES, put, 0)


def _column(by_lane, group, token):
    """[8, 1] of the token, from [J, tokens]."""
    from jax.experimental import pallas as pl

    block = by_lane[pl.ds(group * tiling.SUBLANES, tiling.SUBLANES), :]
    lane = jax.lax.broadcasted_iota(jnp.int32, block.shape, 1)
    return jnp.where(lane == token, block, 0).sum(axis=1, keepdims=True)


def _rows(slot, group, upper, token):
    """Eight rows in float32; of words the half that was asked for."""
    from jax.experimental import pallas as pl

    found = slot[pl.ds(group * tiling.SUBLANES, tiling.SUBLANES), :]
    if upper is None:
        return found
    high = _column(upper, group, token) > 0
    bits = jnp.where(high, found & jnp.uint32(0xFFFF0000), jax.lax.shift_left(found, jnp.uint32(16)))
    return jax.lax.bitcast_convert_type(bits, jnp.float32)
