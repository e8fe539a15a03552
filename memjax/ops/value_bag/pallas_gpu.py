"""The value bag and its dots on a Hopper GPU: a block of 128 threads a token, rows straight into registers.

    bag: block (t, 1024 columns)                    dots: block t
    thread  0    1    2   ...  127                  thread  0    1   ...  127
    row 0  [16 B 16 B 16 B     16 B]                row 0  [4 B  4 B      4 B] + the next 512 B of the row ...
    row 1  [ .    .    .        .  ]                  ...        each times x, into a partial sum a thread
    ...                                             row 15 [ .    .        . ]
    row 7  [ .    .    .        .  ]                          | shared memory [16, 128], 16 rows' partial sums
      o += w0 row 0 + ... + w7 row 7                          v
                                                    a warp takes 4 rows: sums of 32 lanes, then s[t, 16 reads]

8 (16) rows a block are on their way before the first is used, and 8 to 16 blocks share a multiprocessor, some 64 KiB in
flight where 25 KiB cover the latency of memory (4.8 TB/s, 700 ns, 132 multiprocessors). Why loads and no copies into
shared memory: the gathering copy (TMA) is Blackwell's, and one TMA copy a row costs a descriptor's box and a barrier's
round trip for a single kilobyte; rows are used once and as they lie, so shared memory would only be a longer way.

Shared memory: the bag none, dots 16 partial sums a thread, 8 KiB (16 KiB of bfloat16, which is loaded in pairs), twice.
Registers: bag 8 x V / 128 numbers a thread for what is in flight, at most 64. Floor: the rows' bytes, T J V times 2 or
4, and 8 T J + 4 T V of the rest, against 2 T J V operations: memory rules. Rows that several tokens read may come from
the cache. A number that reads nothing reads the last row, which the cache holds, with weight zero.
"""

from functools import partial

import jax
import jax.numpy as jnp

from memjax.ops import implementations, mesh
from memjax.ops.value_bag import gradients, tiling


def refusal(values, indices, other) -> str | None:
    """Why the kernels cannot serve a table [M, V], indices [T, J], and weights or x."""
    if missing := implementations.no_hopper():
        return missing
    if values.dtype not in (jnp.float32, jnp.bfloat16):
        return f"values are {values.dtype}, not float32 or bfloat16"
    if gradients.wide(values, other) != jnp.float32:
        return "sums are float64"
    if values.shape[-1] % tiling.THREADS:
        return f"V = {values.shape[-1]} is no multiple of 128, the threads of a block"
    return None if indices.size else "there are no tokens"


@partial(jax.jit, static_argnames=("dtype", "interpret"))
def value_bag(values, indices, weights, *, dtype, interpret):
    """values [M, V]; indices [T, J] in 0 .. M, where M reads nothing; weights [T, J] float32. [T, V] in `dtype`."""
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import mosaic_gpu as plgpu

    tokens, width = indices.shape[0], values.shape[1]
    plan = tiling.gpu_bag(width, values.dtype.itemsize)
    parts = width // plan.columns
    layout = plgpu.Layout.WG_STRIDED((plan.columns,), vec_size=plan.vector)

    def body(table, indices, weights, out):
        block = jax.lax.axis_index("block")
        token, columns = block // parts, pl.ds(block % parts * plan.columns, plan.columns)

        def add(group, total):
            reads = [group * plan.reads + j for j in range(plan.reads)]
            rows = [plgpu.layout_cast(table[indices[token, j], columns], layout) for j in reads]
            for j, row in zip(reads, rows, strict=True):
                total += weights[token, j] * row.astype(jnp.float32)
            return total

        start = plgpu.layout_cast(jnp.zeros((plan.columns,), jnp.float32), layout)
        total = jax.lax.fori_loop(0, indices.shape[1] // plan.reads, add, start)
        out[token, columns] = total.astype(out.dtype)

    out = jax.ShapeDtypeStruct((tokens, width), dtype)
    weights = _whole(jnp.where(indices < values.shape[0], weights, 0), plan.reads)
    inputs = (values, _readable(indices, values, plan.reads), weights)
    o = _kernel(body, out, (), tokens * parts, interpret, "value_bag")(*inputs)
    return mesh.varying_as([o], *inputs)[0]  # a plgpu.kernel forgets it


@partial(jax.jit, static_argnames=("interpret",))
def row_dots(values, indices, x, *, interpret):
    """values and indices as above; x [T, V] float32. Returns [T, J] in float32."""
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import mosaic_gpu as plgpu

    (tokens, bag), width = indices.shape, values.shape[1]
    plan = tiling.gpu_dots(width, values.dtype.itemsize)
    layout = plgpu.Layout.WG_STRIDED((plan.columns,), vec_size=plan.vector)

    def body(table, indices, x, out, partial_sums):
        token = jax.lax.axis_index("block")

        def products(rows, part):
            columns = pl.ds(part * plan.columns, plan.columns)
            load = lambda ref, row: plgpu.layout_cast(ref[row, columns], layout).astype(jnp.float32)
            own = load(x, token)
            return [load(table, row) * own for row in rows]

        def group(number, _):
            sums = partial_sums.at[number % 2]
            first = number * plan.reads
            rows = [indices[token, first + j] for j in range(plan.reads)]
            add = lambda part, found: [a + b for a, b in zip(found, products(rows, part), strict=True)]
            found = jax.lax.fori_loop(1, width // plan.columns, add, products(rows, 0))
            for j, s in enumerate(found):
                sums[j, :] = s
            plgpu.commit_smem()  # all threads have written; the other half is free by the time that it is written again
            by_row = plgpu.layout_cast(sums[...], _row_a_warp())
            out[token, pl.ds(first, plan.reads)] = by_row.sum(axis=1)

        jax.lax.fori_loop(0, indices.shape[1] // plan.reads, group, None)

    readable = _readable(indices, values, plan.reads)
    out = jax.ShapeDtypeStruct(readable.shape, jnp.float32)
    scratch = (plgpu.SMEM((2, plan.reads, plan.columns), jnp.float32),)
    s = _kernel(body, out, scratch, tokens, interpret, "row_dots")(values, readable, x)
    (s,) = mesh.varying_as([s], values, indices, x)
    return jnp.where(indices < values.shape[0], s[:, :bag], 0)


def _kernel(body, out, scratch, blocks, interpret, name):
    from jax.experimental.pallas import mosaic_gpu as plgpu

    return plgpu.kernel(
        body,
        out_type=out,
        scratch_types=scratch,
        grid=(blocks,),
        grid_names=("block",),
        # threads meet where `commit_smem` says so, and nowhere else
        compiler_params=plgpu.CompilerParams(
            unsafe_no_auto_barriers=True, lowering_semantics=plgpu.LoweringSemantics.Lane
        ),
        interpret=plgpu.InterpretGPUParams() if interpret else None,  # pyright: ignore[reportAttributeAccessIssue]
        kernel_name=name,
    )


def _row_a_warp():
    """[4 n, 128 m]: a warp holds every fourth row, a lane four neighbouring columns of it."""
    from jax.experimental.pallas import mosaic_gpu as plgpu

    return plgpu.Layout.TILED(plgpu.Tiling(((4, 128), (4,))), warp_dims=(-3,), lane_dims=(-2,), vector_dim=-1)


def _readable(indices, values, multiple):
    """Of all J, rounded up, the number of a row; for what reads nothing the last one's."""
    return _whole(jnp.minimum(indices, values.shape[0] - 1), multiple)


def _whole(x, multiple):
    """[T, J] with J rounded up."""
    return jnp.pad(x, ((0, 0), (0, -x.shape[1] % multiple)))
