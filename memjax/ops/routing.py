"""Tokens sorted by the memory they go to: one stream a row, static in shape, nothing dropped.

Token t of a row goes to J of S memories. The stream of the row holds the tokens of memory 0 in the order of time, then
those of memory 1, and so on. The share of each memory is filled up to whole chunks of C places, so that a chunk has one
memory; T J / C + S chunks hold any choice. Places that no token fills read zeros.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from memjax.ops import decays, segments


class Stream(NamedTuple):
    """Attributes, L = n C places in n chunks:
    source: [B, L] the assignment t J + j that a place holds; 0 where none.    valid: [B, L] whether it holds one.
    place: [B, T, J] where an assignment lies; L for one that is left out (padding).
    slots: [B, n] the memory of each chunk.    first: [B, n] whether no token of that memory stands before the chunk.
    counts, starts: [B, S] tokens of each memory, and the place of its first.
    index: [B, L] the number of a token's document (that of the memory's last token where none); None for rows that are
        one document each.    last: [B] the number of the row's last document.
    """

    source: Int[Array, "B L"]
    valid: Bool[Array, "B L"]
    place: Int[Array, "B T J"]
    slots: Int[Array, "B n"]
    first: Bool[Array, "B n"]
    counts: Int[Array, "B S"]
    starts: Int[Array, "B S"]
    index: Int[Array, "B L"] | None
    last: Int[Array, "B"]

    @property
    def chunk(self) -> int:
        """Places of a chunk, C."""
        return self.source.shape[1] // self.slots.shape[1]

    def chunks(self, x):
        """[B, L, ...] to [B n, C, ...]."""
        return x.reshape(-1, self.chunk, *x.shape[2:])


def chunk_size(time: int, topk: int, memories: int) -> int:
    """Places of a chunk: the power of two in 16 .. 64 that wastes at most about a fifth of the stream on filling up."""
    return next((size for size in (64, 32) if 5 * size * memories <= time * topk), 16)


def pack(choice: Int[Array, "B T J"], memories: int, chunk: int, docs: segments.Documents | None = None) -> Stream:
    """Sorts assignments stably by (row, memory, time).

    Args:
        choice: the J different memories of each token, in 0 .. S - 1.
        memories: S.
        chunk: places of a chunk, C.
        docs: documents of the rows; padding goes to no memory.
    """
    batch, time, topk = choice.shape
    chunks = time * topk // chunk + memories
    length = chunks * chunk
    hits = choice.reshape(batch, -1)[..., None] == jnp.arange(memories)[None, None]
    if docs is not None:
        hits &= jnp.repeat(docs.valid, topk, axis=1)[..., None]
    rank = jnp.cumsum(hits, axis=1, dtype=jnp.int32)  # how many of its memory stand at or before an assignment
    counts = rank[:, -1]
    own = -(-counts // chunk)
    ends = jnp.cumsum(own, axis=1)
    starts = (ends - own) * chunk
    place = jnp.where(hits, starts[:, None] + rank - 1, 0).sum(-1)
    place = jnp.where(hits.any(-1), place, length)
    rows = jnp.arange(batch)[:, None]
    source = jnp.full((batch, length), -1, jnp.int32)
    source = source.at[rows, place].set(jnp.arange(time * topk, dtype=jnp.int32)[None], mode="drop")
    number = jnp.arange(chunks)[None]
    slots = jnp.minimum((number[..., None] >= ends[:, None]).sum(-1), memories - 1)
    first = number * chunk == jnp.take_along_axis(starts, slots, axis=1)
    index, last = None, jnp.zeros(batch, jnp.int32)
    if docs is not None:
        token = jnp.repeat(docs.index, topk, axis=1)
        latest = jnp.where(hits, token[..., None], 0).max(axis=1)  # of each memory; numbers grow along a row
        filled = jnp.take_along_axis(token, jnp.maximum(source, 0), axis=1)
        index = jnp.where(source >= 0, filled, jnp.repeat(jnp.take_along_axis(latest, slots, axis=1), chunk, axis=1))
        last = docs.index[:, -1]
    shaped = place.reshape(batch, time, topk)
    return Stream(jnp.maximum(source, 0), source >= 0, shaped, slots, first, counts, starts, index, last)


def current(stream: Stream) -> Bool[Array, "B S"]:
    """Whether what a memory holds in the end belongs to the row's last document."""
    if stream.index is None:
        return jnp.ones(stream.counts.shape, bool)
    end = jnp.maximum(stream.starts + stream.counts - 1, 0)
    mine = jnp.where(stream.counts > 0, jnp.take_along_axis(stream.index, end, axis=1), 0)
    return mine == stream.last[:, None]


@jax.custom_vjp
def to_stream(x: Float[Array, "B T F"], stream: Stream) -> Float[Array, "B L F"]:
    """The tokens in the order of the stream, zero where a place holds none. The gradient gathers, too."""
    topk = stream.place.shape[-1]
    taken = jnp.take_along_axis(x, (stream.source // topk)[..., None], axis=1)
    return jnp.where(stream.valid[..., None], taken, 0)


@jax.custom_vjp
def from_stream(y: Float[Array, "B L F"], stream: Stream) -> Float[Array, "B T J F"]:
    """What each assignment finds at its place, zero for one that was left out. The gradient gathers, too."""
    batch, time, topk = stream.place.shape
    place = stream.place.reshape(batch, -1)
    taken = jnp.take_along_axis(y, jnp.minimum(place, y.shape[1] - 1)[..., None], axis=1)
    taken = jnp.where((place < y.shape[1])[..., None], taken, 0)
    return taken.reshape(batch, time, topk, -1)


def _from_stream_backward(stream, d):
    flat = d.reshape(d.shape[0], -1, d.shape[-1])
    taken = jnp.take_along_axis(flat, stream.source[..., None], axis=1)
    return jnp.where(stream.valid[..., None], taken, 0), None


to_stream.defvjp(
    lambda x, stream: (to_stream(x, stream), stream), lambda stream, d: (from_stream(d, stream).sum(2), None)
)
from_stream.defvjp(lambda y, stream: (from_stream(y, stream), stream), _from_stream_backward)


def times_own(x: Float[Array, "B L D"], matrices: Float[Array, "S D F"], stream: Stream) -> Float[Array, "B L F"]:
    """Each chunk times the matrix of its memory; no chunk meets the matrices of the others.

    The gradient of the matrices is accumulated in float32, chunk by chunk in place. Rows stay an axis of the products,
    so that they may lie on different devices.
    """
    by_chunk = x.reshape(x.shape[0], -1, stream.chunk, x.shape[-1])
    y = _chunks_times(jnp.moveaxis(by_chunk, 1, 0), matrices, stream.slots.T)
    return jnp.moveaxis(y, 0, 1).reshape(*x.shape[:2], -1)


@jax.custom_vjp
def _chunks_times(x, matrices, slots):
    """x [n, B, C, D], slots [n, B]."""
    return jax.lax.map(lambda chunk: jnp.einsum("bcd,bdf->bcf", chunk[0], matrices[chunk[1]]), (x, slots))


def _chunks_times_backward(saved, d_y):
    x, matrices, slots = saved
    wide = jnp.promote_types(matrices.dtype, jnp.float32)

    def step(total, chunk):
        x, d_y, slot = chunk
        own = jnp.einsum("bcd,bcf->bdf", x, d_y, preferred_element_type=wide)
        return total.at[slot].add(own), jnp.einsum("bcf,bdf->bcd", d_y, matrices[slot])

    total, d_x = jax.lax.scan(step, jnp.zeros(matrices.shape, wide), (x, d_y, slots))
    return d_x, total.astype(matrices.dtype), None


_chunks_times.defvjp(lambda *inputs: (_chunks_times(*inputs), inputs), _chunks_times_backward)


def before_chunks(x: Float[Array, "B L F"], past: Float[Array, "B S P F"], stream: Stream) -> Float[Array, "N P F"]:
    """The P places of a chunk's memory before each of the N = B n chunks, zero where they belong to another document.

    `past` [B, S, P, F] are the last tokens of each memory before this stream, oldest first; P is at most C.
    """
    batch, reach, number = past.shape[0], past.shape[2], stream.slots.size
    tails = lambda z: z.reshape(batch, -1, stream.chunk, *z.shape[2:])[:, :-1, stream.chunk - reach :]
    shift = lambda z: jnp.pad(tails(z), ((0, 0), (1, 0), (0, 0), *[(0, 0)] * (z.ndim - 2)))
    own = jnp.take_along_axis(past, stream.slots[:, :, None, None], axis=1)
    before = jnp.where(stream.first[:, :, None, None], own, shift(x).astype(past.dtype))
    if stream.index is not None:
        document = jnp.where(stream.first[:, :, None], 0, shift(stream.index))
        begun = stream.index.reshape(batch, -1, stream.chunk)[:, :, :1]
        before = jnp.where((document == begun)[..., None], before, 0)
    return before.reshape(number, *before.shape[2:])


def after_stream(x: Float[Array, "B L F"], past: Float[Array, "B S P F"], stream: Stream) -> Float[Array, "B S P F"]:
    """The last P tokens of each memory after this stream, zero where they are not of the row's last document."""
    batch, _, reach, _ = past.shape
    back = stream.counts[..., None] - reach + jnp.arange(reach)[None, None]  # [B, S, P], negative: before the stream
    place = jnp.maximum(stream.starts[..., None] + back, 0).reshape(batch, -1)
    new = jnp.take_along_axis(x, place[..., None], axis=1).reshape(past.shape).astype(past.dtype)
    old = jnp.take_along_axis(past, jnp.clip(back + reach, 0, reach - 1)[..., None], axis=2)
    document = jnp.zeros(back.shape, jnp.int32)
    if stream.index is not None:
        mine = jnp.take_along_axis(stream.index, place, axis=1).reshape(back.shape)
        document = jnp.where(back >= 0, mine, 0)
    kept = jnp.where((back >= 0)[..., None], new, old)
    return jnp.where((document == stream.last[:, None, None])[..., None], kept, 0)


class Rows:
    """A stream as the chunked ops take it: rows M = batch times heads G.

    Attributes:
        chunk: places of a chunk.    slots: [n, M].    masks: `decays.Masks`, or None without documents.
    """

    def __init__(self, stream: Stream, heads: int):
        batch = stream.slots.shape[0]
        by_row = lambda x: jnp.repeat(jnp.moveaxis(x, 1, 0), heads, axis=1)  # [B, n, ...] to [n, M, ...]
        self._shape = (batch, heads)
        self.chunk = stream.chunk
        self.slots = by_row(stream.slots)
        self.masks = None
        if stream.index is not None:
            index = stream.index.reshape(batch, -1, self.chunk)
            self.masks = decays.masks(by_row(index), by_row(stream.first))

    def pack(self, table: Float[Array, "B S G K V"]) -> Float[Array, "S M K V"]:
        """States of all rows, a memory after the other."""
        table = jnp.moveaxis(table, 1, 0)
        return table.reshape(table.shape[0], -1, *table.shape[3:])

    def unpack(self, table: Float[Array, "S M K V"], stream: Stream) -> Float[Array, "B S G K V"]:
        """The inverse of `pack`; memories are emptied whose tokens belong to an earlier document of the row."""
        table = jnp.moveaxis(table.reshape(table.shape[0], *self._shape, *table.shape[2:]), 0, 1)
        return jnp.where(current(stream)[..., None, None, None], table, 0)
