"""The kernels for the pairs of tokens inside a chunk, under one gate a head or none: `matrices` gives P and
X = (I + A)^-1, `gradients` what comes back through P and A.

A block of the grid owns one chunk of one memory. The sums of log-decays g from j to i are a product of their own, of
terms <= 0 alone; the grams are exact; the inverse is doubled, and corrected once:

     K, tiles of 64                 g, after j                    X from 2 rows to 64, half = 2, 4, .. 32
      +--+--+--         1         +------+     D = exp(.),         +---+---+
    q |  |  |    q k^T  1 1    x  |g2    |     zero above the      |X11|   |    X <- X - (X A) X, of X A the corners
      +--+--+--  k k^T  1 1 1     |g3 g3 |     diagonal and        +---+---+    21 of each pair of blocks alone
    k |  |  |           1 1 1 1   |g4 g4 g4    between documents   | 0 |X22|    last  X <- X + X (I - (I + A) X)
      +--+--+--                                                    +---+---+

Operands are sums of bfloat16 parts (see `tiles`), three for g, which is all of a float32. The doubling works with two;
that alone would leave errors of 5e-4 (64 equal keys, beta = 2: X alternates between 2 and -2, and X A cancels). The
correction squares them: with its residual in three parts 6e-6 of what X is, and as a rule 1e-6, as float32 has it.

`gradients` ends the sums over V of the backward (do, dR, W as in `sequence`). q and k of the chunk come whole, under
the walk over V, so that dP and dA never leave the registers:

     V, tiles of 64                     m_q = scale D dP                 to q and k: `gradients.outer`
      +--+--+--                         m_k = beta strictly_lower(D dA)  goes there with its transpose added
   64 |  |  |     dP =  do W^T    ->    dS  = m_q (q k^T) + m_k (k k^T), the cotangent of the sums of log-decays
      +--+--+--   dA = -dR W^T          d g_i = sum over j < i of (L^T dS)_ij     L: the ones of the drawing above

Under a gate a channel, which `channels` has, it stops at dP and dA, masked.

Shared memory of `matrices`: q and k 16 KiB a tile, two tiles from K = 128 on; A in three parts 24 KiB, X 24, what is
between 16; 101 of 227 KiB, so that two blocks share a multiprocessor. P alone: P 16, tiles 32. Of `gradients` at K =
128: a tile of V 56 KiB, q and k 32, what is between 16; 110, and again two blocks share. Once the walk is over, the
buffers of the tiles serve for the rest. Registers: 255 a thread, nothing spilled.

Floor a chunk, K = V = 128. `matrices`: 256 K bytes for q and k, 32 KiB for the parts of P and X, 16 for X; 40 products
of 64 x 64 x 64 and K / 64 of each gram, 23 MFLOP: 280 FLOP a byte where the card turns at 206. The products wait for
each other, twelve deep, and it is the other blocks that fill the gaps. `gradients`: 16 KiB for do, 32 each for W, dR,
E, for q and k, and for what is written; 22 products, 12 MFLOP: 63 FLOP a byte, bound by what it reads.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas import mosaic_gpu as plgpu

from memjax.ops.hopper import frame
from memjax.ops.hopper.frame import BETA
from memjax.ops.hopper.places import Spot, spot
from memjax.ops.hopper.tiles import (
    ACROSS,
    MATRIX,
    ROWS,
    VECTOR,
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
    gate: jax.Array | None,
    documents: jax.Array | None,
    rows: jax.Array,
    *,
    inverse: bool,
    scale: float,
    interpret: Any,
) -> tuple[jax.Array, ...]:
    """P as `frame.Chunks` has it and, where asked for, X in the same form and in float32 [N, B, G, C, C].

    Args:
        q, k: [1 or 2, B, T, H, K].    gate: [B, G, N, C] float32, log-decays.    documents: [B, N, C] float32, the
            number of each token's.    rows: as in `frame.Chunks`; beta is read.    scale: on q.
    """
    batch, groups, count = rows.shape[:3]
    heads, channels = k.shape[3:]

    def body(walk, own, others, outputs):
        at = spot(groups, heads)

        def step(i, tile, grams):
            to = transposed(tile["k"])
            return tuple(g + product((tile[name], to)) for g, name in zip(grams, "qk", strict=False))

        gram_q, *gram_k = walk(step, (zeros(),) * (1 + inverse), at)
        i, j = grid()
        decay = _decay(own, i, j, own["k"].at[:1], own["between"], own["q"].at[:1])
        frame.send(own["between"], scale * decay * gram_q, partial(at.matrix, outputs[0], 0))
        if inverse:
            a = jnp.where(j < i, scale_rows(own["rows"].at[0, BETA], decay * gram_k[0]), 0.0)
            x = invert(a, i ^ j, own)
            frame.send(own["x"].at[:2], x, partial(at.matrix, outputs[1], 0))
            outputs[2][at.chunk, at.batch, at.group] = x
        plgpu.wait_smem_to_gmem(0)

    parts = jax.ShapeDtypeStruct((2, batch, groups, count, ROWS, ROWS), jnp.bfloat16)
    whole = jax.ShapeDtypeStruct((count, batch, groups, ROWS, ROWS), jnp.float32)
    inputs = {name: frame.Input(x, Spot.keys, (ROWS, ROWS)) for name, x in (("q", q), ("k", k))}
    fixed = vectors(gate, documents, rows if inverse else None)
    own = {"between": (2, ROWS, ROWS)} | ({"x": (3, ROWS, ROWS), "a": (3, ROWS, ROWS)} if inverse else {})
    sizes = {"memory": batch * groups, "chunk": count}
    run = {"grid": sizes, "count": channels // ROWS, "fixed": fixed, "by_lane": True, "interpret": interpret}
    return frame.call(body, inputs, [], [parts, *[parts, whole] * inverse], own, **run)


def gradients(
    q: jax.Array,
    k: jax.Array,
    gate: jax.Array | None,
    documents: jax.Array | None,
    rows: jax.Array,
    d_o: jax.Array,
    d_r: jax.Array,
    written: jax.Array,
    error: jax.Array | None,
    *,
    by_channel: bool,
    scale: float,
    interpret: Any,
) -> dict[str, jax.Array]:
    """What the sums over V give inside the chunks: "m_q" and, of the delta rule, "m_k" as `gradients.Finish` has them
    and "d_beta"; under a gate "d_gate", its gradient through the decay from j to i. Both [B, G, N, C] float32.

    With `by_channel` the gate is none here: m_q and m_k are as `channels.Finish` has them, and d_beta lacks what comes
    through A.

    Args:
        q, k, gate, documents, rows, scale: as in `matrices`.    d_o, d_r, written: [1 or 2,
            B, T, G, V].    error: the same, None: linear attention.
    """
    batch, groups, count = rows.shape[:3]
    heads, channels = k.shape[3:]
    gated, delta = gate is not None, error is not None

    def body(walk, own, others, outputs):
        at, found = spot(groups, heads), dict(zip(out_type, outputs, strict=True))
        d_p, *more = _over_values(walk, at, delta)
        (i, j), ones, parts = grid(), own["d_o"].at[:1], (own["pair"], own["written"].at[:1])
        decay = _decay(own, i, j, ones, *parts)
        m_q, below, turned, d_sums = scale * decay * d_p, zeros(), zeros(), zeros()
        gram = lambda x: product((x, transposed(own["k"])))
        if gated:
            d_sums = m_q * gram(own["q"])
        if delta:
            below, d_beta = jnp.where(j < i, -decay * more[0], 0.0), more[1]
            turned = scale_rows(own["rows"].at[0, BETA], below)
            if not by_channel:
                through, below = below * gram(own["k"]), turned
                d_sums += scale_rows(own["rows"].at[0, BETA], through)
                d_beta += through.sum(1)
            found["d_beta"][at.batch, at.group, at.chunk] = d_beta
        if gated:
            d_terms = jnp.where(j < i, _summed(transposed(ones), d_sums, *parts), 0.0)
            found["d_gate"][at.batch, at.group, at.chunk] = d_terms.sum(1)
        put(own["pair"], m_q)
        if delta:
            put(own["error"], below + _turned(turned, i == j, own["d_r"], ones))
        plgpu.commit_smem()
        for name, source in (("m_q", "pair"), ("m_k", "error"))[: 1 + delta]:
            frame.store(own[source], partial(at.matrix, found[name], 0))
        plgpu.wait_smem_to_gmem(0)

    matrix = jax.ShapeDtypeStruct((2, batch, groups, count, ROWS, ROWS), jnp.bfloat16)
    vector = jax.ShapeDtypeStruct((batch, groups, count, ROWS), jnp.float32)
    out_type = {"m_q": matrix} | ({"m_k": matrix, "d_beta": vector} if delta else {})
    out_type |= {"d_gate": vector} if gated else {}
    moving = {"d_o": d_o, "written": written} | ({"d_r": d_r, "error": error} if delta else {})
    fixed = vectors(gate, documents, rows if delta else None)
    used = {"q": q, "k": k} if gated else {"k": k} if delta and not by_channel else {}
    fixed |= {name: frame.Input(x, Spot.all_keys, (ROWS, channels)) for name, x in used.items()}
    inputs = {name: frame.Input(x, Spot.operand, (ROWS, ROWS)) for name, x in moving.items()}
    run = {"grid": {"memory": batch * groups, "chunk": count}, "count": d_o.shape[-1] // ROWS}
    run |= {"fixed": fixed, "by_lane": True, "interpret": interpret}
    outputs = frame.call(body, inputs, [], [*out_type.values()], {"pair": (2, ROWS, ROWS)}, **run)
    return dict(zip(out_type, outputs, strict=True))


def _over_values(walk, at, delta):
    """do W^T and, of the delta rule, dR W^T and the row sums of dR E, over the tiles of V of a `walk`."""

    def step(i, tile, sums):
        to = transposed(tile["written"])
        sums = [sums[0] + product((tile["d_o"], to)), *sums[1:]]
        if delta:
            sums[1] += product((tile["d_r"], to))
            sums[2] += (total(tile["d_r"]) * total(tile["error"])).sum(1)
        return tuple(sums)

    return walk(step, (zeros(), *((zeros(), nothing()) if delta else ())), at)


def _turned(x, diagonal, parts, one):
    """x transposed, by a product with ones on the diagonal."""
    one[0] = jnp.where(diagonal, 1.0, 0.0).astype(jnp.bfloat16)
    put(parts, x)
    plgpu.commit_smem()
    return product((transposed(parts), one))


def vectors(gate: jax.Array | None, documents: jax.Array | None, rows: jax.Array | None) -> dict[str, frame.Input]:
    """A chunk's numbers, of those that are there."""
    fixed = {} if gate is None else {"gate": frame.Input(gate, Spot.vector, (ROWS,))}
    fixed |= {} if documents is None else {"documents": frame.Input(documents, Spot.documents, (ROWS,))}
    return fixed | ({} if rows is None else {"rows": frame.Input(rows, Spot.vector, rows.shape[3:])})


def grid() -> Any:
    """The numbers of row and column."""
    return [plgpu.broadcasted_iota(jnp.int32, (ROWS, ROWS), axis, layout=MATRIX) for axis in (0, 1)]


def seen(own: dict[str, Any], i: jax.Array, j: jax.Array) -> jax.Array:
    """Where i comes from j or is j, in one document."""
    found = j <= i
    if "documents" in own:
        numbers = own["documents"].at[0]
        row, column = read(numbers, VECTOR), read(numbers, ACROSS)
        wide = lambda x, axis: jax.lax.broadcast_in_dim(x, (ROWS, ROWS), [axis])
        found &= wide(row, 0) == wide(column, 1)
    return found


def _decay(own, i, j, ones, *parts):
    """The decay from j to i, zero above the diagonal and between documents. Under a gate `ones` is left with ones up to
    the diagonal, and `parts` are worked in."""
    near = seen(own, i, j)
    if "gate" not in own:
        return jnp.where(near, 1.0, 0.0)
    ones[0] = jnp.where(j <= i, 1.0, 0.0).astype(jnp.bfloat16)
    after = jax.lax.broadcast_in_dim(read(own["gate"].at[0], VECTOR), (ROWS, ROWS), [0])
    return jnp.exp(jnp.where(near, _summed(ones, jnp.where(i > j, after, 0.0), *parts), -jnp.inf))


def _summed(ones, x, *parts):
    """The product of the one part `ones` with x, in the parts of one buffer or more."""
    for some in parts:
        x = put(some, x)
    plgpu.commit_smem()
    return product(*((ones, some) for some in parts))


def invert(a: jax.Array, differ: jax.Array, own: dict[str, Any]) -> jax.Array:
    """(I + a)^-1 for strictly lower a; `differ` holds the bits in which the numbers of row and column differ. What was
    stored of P is read by the time its buffer is used."""
    one, two = jnp.where(differ == 0, 1.0, 0.0), own["x"].at[:2]
    put(own["a"], a)
    plgpu.wait_smem_to_gmem(0, wait_read_only=True)

    def double(level, x):
        half = jnp.left_shift(1, level)
        corners = (differ >= half) & (differ < 2 * half)
        put(two, x)
        plgpu.commit_smem()
        put(own["between"], jnp.where(corners, product((two, own["a"].at[:2])), 0.0))
        plgpu.commit_smem()
        return x - product((own["between"], two))

    x = jax.lax.fori_loop(1, ROWS.bit_length() - 1, double, one - jnp.where(differ == 1, a, 0.0))
    put(own["x"], x)
    plgpu.commit_smem()
    own["between"][0] = (one - x - product((own["a"], own["x"]))).astype(jnp.bfloat16)
    plgpu.commit_smem()
    return x + product((own["x"].at[:1], own["between"].at[:1]))
