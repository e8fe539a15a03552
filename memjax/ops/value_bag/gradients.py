"""The gradient of the table, summed from the reads sorted by row.

A read is a pair (t, j); it gives weights[t, j] g[t] to its row. Sorted by row (and by (t, j) among equals) the reads of
a row are neighbours, a run. Blocks of L reads go by in turn; a block's runs are summed in passes, as many as the
logarithm of the longest one's length,

    c[a] <- c[a] + c[a - 2^p]      where a - 2^p is of the same run,

the run that the block before left open goes on with what was carried over, and the sum at a run's end is written to its
row. The writes of one block go to different rows and a run that spans blocks is written again, so nothing depends on
the order in which a device adds: the result is the same bit by bit. Sums are float32 and rounded once, when written.

On a TPU and on a Hopper GPU a kernel sums the runs, see `sums_tpu` and `sums_gpu`.

Timed on one CPU core (M 65536, V 256, 131072 reads), the table's allocation and its zeros included, which are half of
it: 150 ms, adding the blocks' reads to the table by XLA's scatter 115 ms, in an order that is XLA's to choose, and one
scatter of all reads 340 ms.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from memjax.ops import implementations, mesh
from memjax.ops.value_bag import runs, sums_gpu, sums_tpu, tiling

# Elements of a block, L V: on a CPU a block stays in the cache; an accelerator wants few steps.
ELEMENTS = {"cpu": 2**16, "default": 2**21}


class Reads(NamedTuple):
    """All reads, N of them, sorted by row; attributes are [N].

    rows: the row that is read; M for none.    source: the number t J + j of the read.
    rank: how many different rows stand before its row.    place: how many reads of its row stand before it.
    """

    rows: jax.Array
    source: jax.Array
    rank: jax.Array
    place: jax.Array


def wide(*arrays):
    """The dtype of sums: at least float32."""
    return jnp.promote_types(jnp.result_type(*(x.dtype for x in arrays)), jnp.float32)


def take(x, at):
    """x[at] along axis 0, for `at` that are known to be in range."""
    return x.at[at].get(mode="promise_in_bounds")


def dense(indices, weights, cotangent, values, implementation=None):
    """[M, V] in the dtype of values, for indices [T, J] in 0 .. M, where M reads nothing, and cotangent [T, V]."""
    reads = _sort(indices.reshape(-1), values.shape[0])
    return _sums(reads, reads.rows, weights, cotangent, jnp.zeros_like(values), implementation)


def sparse(indices, weights, cotangent, rows, implementation=None):
    """Rows [R] and their gradients [R, V], R = min(M, T J), for M = `rows`; arguments as in `dense`."""
    reads = _sort(indices.reshape(-1), rows)
    count = min(rows, indices.size)
    found = jnp.full(count, rows, jnp.int32)
    first = jnp.where((reads.place == 0) & (reads.rows < rows), reads.rank, count)
    found = found.at[first].set(reads.rows, mode="drop", unique_indices=True)
    out = jnp.zeros((count, cotangent.shape[-1]), wide(weights, cotangent))
    target = jnp.where(reads.rows < rows, reads.rank, count)
    return found, _sums(reads, target, weights, cotangent, out, implementation)


def refusals(reads, weights, cotangent, out):
    """For each kernel why it cannot sum this many reads into `out` [R, V], None where it can."""
    kernels = {"pallas_tpu": sums_tpu, "pallas_gpu": sums_gpu}
    return {name: kernel.refusal(reads, cotangent, weights, out) for name, kernel in kernels.items()}


def _sort(rows, last):
    """The reads of `rows` [N], which are in 0 .. last."""
    source = _order(rows, last)
    rows = take(rows, source)
    begins = runs.begins(rows)
    return Reads(rows, source, jnp.cumsum(begins, dtype=jnp.int32) - 1, _place(begins))


def _place(begins):
    """In a run, from where runs begin."""
    return jnp.arange(begins.size, dtype=jnp.int32) - runs.first(begins)


def _order(rows, last):
    """What sorts `rows` stably, [N] int32.

    A radix sort: each pass sorts single numbers, some bits of the row above the place it comes from. On a CPU XLA sorts
    131072 pairs in 96 ms and single numbers in 10.
    """
    size = max(1, (rows.size - 1).bit_length())
    places = jnp.arange(rows.size, dtype=jnp.uint32)
    order = places.astype(jnp.int32)
    for low in range(0, last.bit_length(), 32 - size):
        digits = take(rows, order).astype(jnp.uint32) >> low << size  # higher bits than the pass sorts by fall out
        sorted_ = jax.lax.sort(digits | places, is_stable=False)
        order = take(order, (sorted_ & (2**size - 1)).astype(jnp.int32))
    return order


def _sums(reads, target, weights, cotangent, out, implementation=None):
    """Writes each run's sum into out[target], where there are zeros; a target beyond `out` is dropped."""
    if not reads.rows.size:
        return out
    (out,) = mesh.varying_as([out], target, weights, cotangent)
    inputs = [reads.rows, reads.place, target, reads.source // weights.shape[-1]]
    inputs += [take(weights.reshape(-1), reads.source), cotangent, out]
    xla = {"cpu": _on_cpu, "default": partial(_blocks, elements=ELEMENTS["default"])}
    few = implementation is None and cotangent.size * weights.shape[-1] * cotangent.dtype.itemsize < tiling.WORTH
    refused = refusals(reads.rows.size, weights, cotangent, out)
    kernels = {name: partial(_by_kernel, _SUMS[name]) for name, why in refused.items() if why is None and not few}
    chosen = implementation if implementation is None or implementation in kernels else "xla"
    return implementations.run(chosen, kernels, xla, *inputs)


def _by_kernel(sums, *inputs, interpret):
    """On each device of a mesh. A mapped axis takes XLA's form."""
    kernel = lambda _rows, _place, *inputs: (sums(*inputs, interpret=interpret),)
    dims = ["." * x.ndim for x in inputs]
    on_each = partial(mesh.kernel_on_each, kernel, dims=dims, out_dims=("..",), batch=0, split=0)
    call = jax.custom_batching.custom_vmap(lambda *inputs: on_each(inputs)[0])

    @call.def_vmap
    def _(size, batched, *inputs):
        axes = [0 if mapped else None for mapped in batched]
        return jax.vmap(partial(_blocks, elements=ELEMENTS["default"]), axes, axis_size=size)(*inputs), True

    return call(*inputs)


def _on_gpu(target, tokens, weights, cotangent, out, *, interpret):
    """The kernel's, then those of the runs that its blocks share."""
    out, shared = sums_gpu.run_sums(target, tokens, weights, cotangent, out, interpret=interpret)
    out, *shared = mesh.varying_as([out, *shared], target, weights, cotangent)
    shared = sums_gpu.Open(*shared)
    number, ones = jnp.arange(shared.target.size, dtype=jnp.int32), jnp.ones(shared.target.size, jnp.float32)
    place = _place(runs.begins(shared.target))
    target = jnp.where(shared.target < 0, out.shape[0], shared.target)
    return _blocks(target, place, target, number, ones, shared.sums, out, elements=ELEMENTS["default"])


_SUMS = {"pallas_tpu": sums_tpu.run_sums, "pallas_gpu": _on_gpu}


def _on_cpu(rows, place, target, tokens, weights, cotangent, out):
    """XLA scatters bfloat16 on a CPU by widening all of `out` at every step, so it gets integers to move instead."""
    run = partial(_blocks, rows, place, target, tokens, weights, cotangent, elements=ELEMENTS["cpu"])
    if out.dtype != jnp.bfloat16:
        return run(out=out)
    to_bits = lambda x: jax.lax.bitcast_convert_type(x, jnp.uint16)
    bits = run(out=to_bits(out), store=lambda c: to_bits(c.astype(jnp.bfloat16)))
    return jax.lax.bitcast_convert_type(bits, jnp.bfloat16)


def _blocks(rows, place, target, tokens, weights, cotangent, out, *, elements, store=None):
    """`store` brings sums into the dtype of `out`."""
    store = store or (lambda c: c.astype(out.dtype))
    sums = wide(weights, cotangent)
    count = -(-rows.size * out.shape[-1] // elements)
    block = -(-rows.size // count)
    spare = count * block - rows.size
    by_block = lambda x, fill: jnp.pad(x, (0, spare), constant_values=fill).reshape(count, block)
    number = jnp.arange(block)
    rows, target = by_block(rows, -1), by_block(target, out.shape[0])
    # within its block; runs that are not written need no sum
    place = jnp.where(target < out.shape[0], jnp.minimum(by_block(place, 0), number[None]), 0)
    ends = jnp.concatenate([rows[:, 1:] != rows[:, :-1], jnp.ones((count, 1), bool)], axis=1)
    target = jnp.where(ends, target, out.shape[0])

    def step(carry, reads):
        out, open_row, open_sum = carry
        row, place, target, token, weight = reads
        goes_on = (number == 0) & (row[0] == open_row)
        c = weight[:, None] * take(cotangent, token).astype(sums) + jnp.where(goes_on[:, None], open_sum[None], 0)
        c = _sum_runs(c, place, number)
        out = out.at[target].set(store(c), mode="drop", unique_indices=True)
        return (out, row[-1], c[-1]), None

    (open_row,) = mesh.varying_as([jnp.int32(-1)], rows)
    (open_sum,) = mesh.varying_as([jnp.zeros(out.shape[-1], sums)], out)
    start = (out, open_row, open_sum)
    reads = (rows, place, target, by_block(tokens, 0), by_block(weights.astype(sums), 0))
    return jax.lax.scan(step, start, reads)[0][0]


def _sum_runs(c, place, number):
    """c [L, V] summed from the beginning of each run; `place` [L] is that in the run."""

    def double(p, c):
        back = 1 << p
        return c + jnp.where((place >= back)[:, None], take(c, jnp.maximum(number - back, 0)), 0)

    return jax.lax.fori_loop(0, 32 - jax.lax.clz(place.max()), double, c)
