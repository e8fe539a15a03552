"""The kernel for the pairs of tokens inside a chunk, under one gate a head or none: P, and X = (I + A)^-1.

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

Shared memory: q and k 16 KiB a tile, two tiles from K = 128 on; A in three parts 24 KiB, X 24, what is between 16; 101
of 227 KiB, so that two blocks share a multiprocessor. P alone: the gate 24, ones 8, P 16, tiles 32.

Floor a chunk: 256 K bytes for q and k, 32 KiB for the parts of P and X, 16 for X; 40 products of 64 x 64 x 64 and
K / 64 of each gram, 23 MFLOP at K = 128: 280 FLOP a byte where the card turns at 206. The products wait for each
other, twelve deep, and it is the other blocks that fill the gaps.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from memjax.ops.hopper import frame
from memjax.ops.hopper.frame import BETA
from memjax.ops.hopper.tiles import ACROSS, MATRIX, ROWS, VECTOR, product, put, read, scale_rows, transposed, zeros


class Spot(NamedTuple):
    """A chunk of a memory."""

    batch: Any
    group: Any
    head: Any
    chunk: Any

    def keys(self, ref, i, part):
        """Tile i of the chunk of [1, B, T, H, K]."""
        return ref.at[part, self.batch, pl.ds(self.chunk * ROWS, ROWS), self.head, self.channels(i)]

    def channels(self, i):
        """Tile i of a row's channels."""
        return pl.ds(i * ROWS, ROWS)

    def gate(self, ref, i, part):
        """Tile i of the chunk of [B, T, G, K]."""
        return ref.at[self.batch, pl.ds(self.chunk * ROWS, ROWS), self.group, self.channels(i)]

    def operand(self, ref, i, part):
        """The same of [parts, B, T, G, K]."""
        return self.gate(ref.at[part], i, part)

    def vector(self, ref, i, part):
        """The chunk of [B, G, N, ...]."""
        return ref.at[self.batch, self.group, self.chunk]

    def documents(self, ref, i, part):
        """The chunk of [B, N, C]."""
        return ref.at[self.batch, self.chunk]

    def matrix(self, ref, part):
        """The chunk of [parts, B, G, N, C, C]."""
        return ref.at[part, self.batch, self.group, self.chunk]


def spot(groups: int, heads: int) -> Spot:
    """Of this instance of a kernel on a grid of memories and chunks."""
    memory = jax.lax.axis_index("memory")
    group = jax.lax.rem(memory, groups)
    head = jax.lax.div(group, groups // heads)
    return Spot(jax.lax.div(memory, groups), group, head, jax.lax.axis_index("chunk"))


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
        q, k: [1, B, T, H, K] bfloat16.    gate: [B, G, N, C] float32, log-decays.    documents: [B, N, C] float32, the
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
        decay = _decay(own, i, j)
        put(own["between"], scale * decay * gram_q)
        plgpu.commit_smem()
        frame.store(own["between"], partial(at.matrix, outputs[0]))
        if inverse:
            a = jnp.where(j < i, scale_rows(own["rows"].at[0, BETA], decay * gram_k[0]), 0.0)
            x = invert(a, i ^ j, own)
            put(own["x"].at[:2], x)
            plgpu.commit_smem()
            frame.store(own["x"].at[:2], partial(at.matrix, outputs[1]))
            outputs[2][at.chunk, at.batch, at.group] = x
        plgpu.wait_smem_to_gmem(0)

    parts = jax.ShapeDtypeStruct((2, batch, groups, count, ROWS, ROWS), jnp.bfloat16)
    whole = jax.ShapeDtypeStruct((count, batch, groups, ROWS, ROWS), jnp.float32)
    inputs = {name: frame.Input(x, Spot.keys, (ROWS, ROWS)) for name, x in (("q", q), ("k", k))}
    fixed = {} if gate is None else {"gate": frame.Input(gate, Spot.vector, (ROWS,))}
    fixed |= {} if documents is None else {"documents": frame.Input(documents, Spot.documents, (ROWS,))}
    fixed |= {"rows": frame.Input(rows, Spot.vector, rows.shape[3:])} if inverse else {}
    own: dict[str, tuple[int, ...]] = {"between": (2, ROWS, ROWS)}
    if inverse or gate is not None:
        own |= {"x": (3 if inverse else 1, ROWS, ROWS), "a": (3, ROWS, ROWS)}
    run = {"grid": {"memory": batch * groups, "chunk": count}, "count": channels // ROWS, "interpret": interpret}
    return frame.call(body, inputs, [], [parts, *[parts, whole] * inverse], own, fixed=fixed, by_lane=True, **run)


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


def _decay(own, i, j):
    """The decay from j to i, zero where j is not seen."""
    near = seen(own, i, j)
    if "gate" not in own:
        return jnp.where(near, 1.0, 0.0)
    own["x"][0] = jnp.where(j <= i, 1.0, 0.0).astype(jnp.bfloat16)
    after = jax.lax.broadcast_in_dim(read(own["gate"].at[0], VECTOR), (ROWS, ROWS), [0])
    put(own["a"], jnp.where(i > j, after, 0.0))
    plgpu.commit_smem()
    sums = product((own["x"].at[:1], own["a"]))
    return jnp.exp(jnp.where(near, sums, -jnp.inf))


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
