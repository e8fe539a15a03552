"""The kernels inside a chunk under a gate a channel: P, X = (I + A)^-1, and the keys and queries that meet the state.

A block of the grid owns one chunk of one memory and goes through the key channels in tiles of 64. A pair (i, j) decays
channel by channel, so q_i . k_j is no product of what there is; but where a border lies between j and i the decay is
that from j to the border times that from the border to i, and the pairs of a block's two halves are one product of
operands that are decayed to its middle. Six halvings reach every pair:

      j ->                        half = 32, 16, .. 1: in each block of 2 half rows, with m its middle
    i +---+---+---+---+
      | 1 |   :       |           M[i, t] = 1   for m <= t <= i   in the second half, i from m on
      | 2 1   :       |                         for i <  t <  m   in the first
      |.......:.......|           E = M g       sums of log-decays g [64, 64 channels], terms <= 0 alone
      | 3   3 : 1     |           corners of (q exp(E)) (k exp(E))^T   and of k with k
      | 3   3 : 2 1   |
      +-------+-------+           The chunk as one half gives the decays from its start and to its end.

Operands are sums of bfloat16 parts (see `tiles`): two, for g three, which is all of a float32; M is exact. The inverse
is that of `pairs`. Documents are masked in P and A here, and in `Chunks.rows` and `Chunks.keep` for the rest.

Shared memory: a tile of q, k, g 32 KiB; g in three parts 24, M 8, keys and queries decayed 32, which the inverse takes
over: 101 of 227 KiB, so that two blocks share a multiprocessor. `Finish`, behind `gradients.outer`, holds q, k, g and
the cotangents of P and A (64 KiB), g in parts, M and keys decayed (48), and a tile of that one's inputs (72), of which
two serve for the queries and for a corner of the cotangents: 188 KiB, 212 of float32 inputs.

Floor a chunk and 64 channels: 32 KiB in, 48 out (q_in, k_in, k_out in two parts), and 64 products of 64 x 64 x 64, 34
MFLOP (9 for the ends, 9 a halving); a chunk 40 products for the inverse. Backward 64 KiB in and 32 out beside what
`outer` has, and 98 products, 51 MFLOP (14 a halving).
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.pallas import mosaic_gpu as plgpu

from memjax.ops import decays
from memjax.ops.hopper import frame, gradients, pairs
from memjax.ops.hopper.frame import BETA, QUERY, READ, WRITE
from memjax.ops.hopper.places import Spot, spot
from memjax.ops.hopper.tiles import (
    ACROSS,
    ROWS,
    VECTOR,
    load,
    nothing,
    product,
    put,
    read,
    scale_rows,
    total,
    transposed,
    zeros,
)


def matrices(
    q: jax.Array,
    k: jax.Array,
    gate: jax.Array,
    documents: jax.Array | None,
    rows: jax.Array,
    *,
    delta: bool,
    inverse: bool,
    scale: float,
    interpret: Any,
) -> tuple[jax.Array, ...]:
    """q_in, of the delta rule k_in, and k_out [2, B, T, G, K], then keep [B, G, N, K] and P, as in `frame.Chunks`, and
    where asked for X in the same form and in float32 [N, B, G, C, C]; documents part P and X alone.

    Args:
        q, k: [1 or 2, B, T, H, K].    gate: [B, T, G, K] float32, log-decays.    documents: [B, N, C] float32, the
            number of each token's.    rows: as in `frame.Chunks`; beta is read.    scale: on P.
    """
    batch, groups, count = rows.shape[:3]
    heads, channels = k.shape[3:]

    def body(walk, own, others, outputs):
        at, where = spot(groups, heads), pairs.grid()
        operands, (keep, p, *found) = outputs[: 2 + delta], outputs[2 + delta :]

        def step(n, tile, grams):
            put(own["a"], decays.finite(load(tile["gate"].at[0])))
            keep[at.batch, at.group, at.chunk, at.channels(n)] = whole(own)
            _to_ends(own, tile, where, [partial(at.operand, ref, n) for ref in operands])
            same = jnp.where(where[0] == where[1], product((tile["q"], transposed(tile["k"]))), 0.0)
            halve = partial(_halve, own, tile, where)
            return jax.lax.fori_loop(0, LEVELS, halve, (grams[0] + same, *grams[1:]))

        grams = walk(step, (zeros(),) * (1 + inverse), at)
        _finish(own, grams, where, scale, at, p, found)

    array = jax.ShapeDtypeStruct
    parts = array((2, batch, groups, count, ROWS, ROWS), jnp.bfloat16)
    out_type = [array((2, batch, count * ROWS, groups, channels), jnp.bfloat16)] * (2 + delta)
    out_type += [array((batch, groups, count, channels), jnp.float32), parts]
    out_type += [parts, array((count, batch, groups, ROWS, ROWS), jnp.float32)] * inverse
    inputs = {name: frame.Input(x, Spot.keys, (ROWS, ROWS)) for name, x in (("q", q), ("k", k))}
    inputs["gate"] = frame.Input(gate, Spot.gate, (ROWS, ROWS))
    fixed = pairs.vectors(None, documents, rows if inverse else None)
    run = {"grid": {"memory": batch * groups, "chunk": count}, "count": channels // ROWS, "interpret": interpret}
    return frame.call(body, inputs, [], out_type, OWN, fixed=fixed, by_lane=True, **run)


def _to_ends(own, tile, where, targets):
    """q and, of the delta rule, k decayed from the chunk's start, and k to its end."""
    (i, j), (into_q, *into_k, out_of_k) = where, targets
    start = decay(own, j <= i)
    frame.send(own["between"], start * total(tile["q"]), into_q)
    for target in into_k:
        frame.send(own["x"].at[:2], start * total(tile["k"]), target)
    plgpu.wait_smem_to_gmem(0, wait_read_only=True)
    frame.send(own["between"], decay(own, j > i) * total(tile["k"]), out_of_k)
    plgpu.wait_smem_to_gmem(0, wait_read_only=True)


def _halve(own, tile, where, level, grams):
    """The grams with the corners of a level."""
    (i, j), keys, queries = where, own["x"].at[:2], own["between"]
    near = decay(own, to_middle(i, j, level))
    put(keys, near * total(tile["k"]))
    put(queries, near * total(tile["q"]))
    plgpu.commit_smem()
    corner = lambda x: jnp.where(corners(i, j, level), product((x, transposed(keys))), 0.0)
    return tuple(found + corner(x) for found, x in zip(grams, (queries, keys), strict=False))


def _finish(own, grams, where, scale, at, p, found):
    """P and, where there is a place for it, X."""
    (i, j), (gram_q, *gram_k) = where, grams
    seen = pairs.seen(own, i, j)
    frame.send(own["between"], jnp.where(seen, scale * gram_q, 0.0), partial(at.matrix, p, 0))
    if found:
        a = jnp.where(seen & (j < i), scale_rows(own["rows"].at[0, BETA], gram_k[0]), 0.0)
        x = pairs.invert(a, i ^ j, own)
        frame.send(own["x"].at[:2], x, partial(at.matrix, found[0], 0))
        found[1][at.chunk, at.batch, at.group] = x
    plgpu.wait_smem_to_gmem(0)


class Finish(NamedTuple):
    """What makes of `gradients.outer`'s sums the gradients of q, k and the gate, a chunk and 64 channels at a time.

    Attributes:
        q, k: [1 or 2, B, T, H, K].    gate: [B, T, G, K].
        m_q: [2, B, G, N, C, C], the cotangent of the decayed q k^T.    m_k: that of A below the diagonal and, times
        beta, transposed above it, or None.    rows, keep: as in `frame.Chunks`.
    """

    q: jax.Array
    k: jax.Array
    gate: jax.Array
    m_q: jax.Array
    m_k: jax.Array | None
    rows: jax.Array
    keep: jax.Array

    by_lane = True

    def fixed(self) -> dict[str, frame.Input]:
        gate = frame.Input(self.gate, Spot.block_gate, (ROWS, ROWS))
        keep = frame.Input(self.keep, Spot.block_vector, (ROWS,))
        return gradients.inputs_of_a_chunk(self) | {"gate": gate, "keep": keep}

    def own(self) -> dict[str, tuple[int, ...]]:
        return {name: OWN[name] for name in "xa"}

    def out_type(self) -> list[jax.ShapeDtypeStruct]:
        """d_q and d_k, as `outer` gives them, that of the gate [B, T, G, K], and of the delta rule that of beta through
        A, [B, G, N, K / 64, C]."""
        shapes = [self.gate.shape, (*self.keep.shape[:3], self.keep.shape[3] // ROWS, ROWS)]
        array = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
        return [*gradients.keys_like(self), *(array(shape) for shape in shapes[: 1 + (self.m_k is not None)])]

    def run(self, sums, d_keep, own, outputs, at) -> None:
        i, j = pairs.grid()
        q, k = (partial(total, own[name]) for name in "qk")
        row = lambda n, x: scale_rows(own["rows"].at[0, n], x)
        read, write, *error = sums
        put(own["a"], decays.finite(load(own["gate"].at[0])))
        near = decay(own, j <= i)
        d_q = near * row(QUERY, read)
        d_k = -near * row(READ, row(BETA, error[0])) if error else zeros()
        d_gate = across(own["keep"].at[0], d_keep) + _to_terms(own, d_q * q() + d_k * k())
        written = decay(own, j > i) * row(WRITE, write)
        d_k, d_gate = d_k + written, d_gate + _to_terms(own, written * k())
        m = own["d_states"]
        mask(own["m_q"], i == j, m)
        d_q, d_k = d_q + product((m, own["k"])), d_k + product((transposed(m), own["q"]))
        found = (d_q, d_k, d_gate, *[nothing()] * len(error))
        found = jax.lax.fori_loop(0, LEVELS, partial(_halve_back, own, (i, j)), found)
        for output, x in zip(outputs[:3], found[:3], strict=True):
            at.block_gate(output, 0, 0)[...] = x.astype(output.dtype)
        for output, d_beta in zip(outputs[3:], found[3:], strict=True):
            output[at.batch, at.group, at.chunk, at.block] = d_beta


def _halve_back(own, where, level, found):
    """The gradients of q, k, the gate and, of the delta rule, beta with those through the corners of a level."""
    (i, j), (d_q, d_k, d_gate, *d_beta) = where, found
    keys, queries, m = own["x"].at[:2], own["states"], own["d_states"]  # the last two of the walk, which is over
    q, k = (partial(total, own[name]) for name in "qk")
    corner = corners(i, j, level)
    near = decay(own, to_middle(i, j, level))
    put(keys, near * k())
    put(queries, near * q())
    mask(own["m_q"], corner, m)
    more = near * product((m, keys))
    d_q, d_near = d_q + more, more * q()
    more = near * product((transposed(m), queries))
    d_k, d_near = d_k + more, d_near + more * k()
    if d_beta:
        mask(own["m_k"], corner | corners(j, i, level), m)
        more, second = near * product((m, keys)), (jnp.right_shift(i, level) & 1) == 1
        d_beta = [d_beta[0] + jnp.where(second, more * k(), 0.0).sum(1)]
        more = jnp.where(second, scale_rows(own["rows"].at[0, BETA], more), more)
        d_k, d_near = d_k + more, d_near + more * k()
    return d_q, d_k, d_gate + _to_terms(own, d_near), *d_beta


def _to_terms(own, x):
    """From the cotangent of the sums that `decay` formed last to that of their terms."""
    put(own["states"], x)
    plgpu.commit_smem()
    return product((transposed(own["x"].at[2:]), own["states"]))


OWN = {"x": (3, ROWS, ROWS), "a": (3, ROWS, ROWS), "between": (2, ROWS, ROWS)}
"""Buffers: keys decayed, and M; g in parts; queries decayed. The inverse of `pairs` works in the same."""
LEVELS = ROWS.bit_length() - 1


def mask(parts: Any, keep: jax.Array, buffer: Any) -> None:
    """Makes the parts of a matrix, zero but where `keep` says, an operand, and with them all that was put before."""
    for n in range(parts.shape[0]):
        buffer[n] = jnp.where(keep, load(parts.at[n]), 0.0).astype(jnp.bfloat16)
    plgpu.commit_smem()


def across(keep: Any, d_keep: jax.Array) -> jax.Array:
    """keep times its cotangent, a number a channel, in each row of a tile; the vector's own buffer turns it."""
    keep[...] = read(keep, VECTOR) * d_keep
    plgpu.commit_smem()
    return jax.lax.broadcast_in_dim(read(keep, ACROSS), (ROWS, ROWS), [1])


def to_middle(i: jax.Array, j: jax.Array, level: jax.Array) -> jax.Array:
    """M: which terms lie between row i and the middle of its block, for halves of 2^level rows."""
    of_i, of_j = jnp.right_shift(i, level), jnp.right_shift(j, level)
    return (of_i == of_j) & ((j <= i) == ((of_i & 1) == 1))


def corners(i: jax.Array, j: jax.Array, level: jax.Array) -> jax.Array:
    """The pairs of a second half with the first half of its block."""
    of_i, of_j = jnp.right_shift(i, level), jnp.right_shift(j, level)
    return ((of_i & 1) == 1) & (of_j == of_i - 1)


def decay(own: dict[str, Any], terms: jax.Array) -> jax.Array:
    """exp of the sums over the `terms` [64, 64] of each row, from g in `own`."""
    return jnp.exp(product((_mask(own, terms), own["a"])))


def whole(own: dict[str, Any]) -> jax.Array:
    """The decay over the chunk, a number a channel."""
    everything = _mask(own, pairs.grid()[0] >= 0)
    return jnp.exp(product((transposed(own["a"]), everything))).max(1)


def _mask(own, terms):
    """As an operand of one part; what was put before is then readable as well."""
    own["x"][2] = jnp.where(terms, 1.0, 0.0).astype(jnp.bfloat16)
    plgpu.commit_smem()
    return own["x"].at[2:]
