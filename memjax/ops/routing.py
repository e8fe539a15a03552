"""Tokens sorted by the memory they go to: one stream a row, static in shape, nothing dropped.

Token t of a row goes to k of M memories. The stream of the row holds the tokens of memory 0 in the order of time, then
those of memory 1, and so on. The share of each memory is filled up to whole chunks, so that a chunk has one memory;
T k / C + M chunks hold any choice. Places that no token fills read zeros.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from memjax.ops import segments


class Stream(NamedTuple):
    """Attributes, L = n C places in n chunks:
    source: [B, L] the assignment t k + j that a place holds; 0 where none.    valid: [B, L] whether it holds one.
    place: [B, T, k] where an assignment lies; L for one that is left out (padding).
    slots: [B, n] the memory of each chunk.    first: [B, n] whether no token of that memory stands before the chunk.
    counts, starts: [B, M] tokens of each memory, and the place of its first.
    index: [B, L] the number of a token's document (that of the memory's last token where none); None for rows that are
        one document each.
    current: [B, M] whether what a memory holds in the end belongs to the row's last document.
    """

    source: Int[Array, "B L"]
    valid: Bool[Array, "B L"]
    place: Int[Array, "B T k"]
    slots: Int[Array, "B n"]
    first: Bool[Array, "B n"]
    counts: Int[Array, "B M"]
    starts: Int[Array, "B M"]
    index: Int[Array, "B L"] | None
    current: Bool[Array, "B M"]


def pack(choice: Int[Array, "B T k"], memories: int, chunk: int, docs: segments.Documents | None = None) -> Stream:
    """Sorts assignments stably by (row, memory, time).

    Args:
        choice: the k different memories of each token, in 0 .. M - 1.
        memories: M.
        chunk: tokens of a chunk, C.
        docs: documents of the rows; padding goes to no memory.
    """
    batch, time, topk = choice.shape
    chunks = time * topk // chunk + memories
    length = chunks * chunk
    live = jnp.ones((batch, time), bool) if docs is None else docs.valid
    hits = (choice.reshape(batch, -1)[..., None] == jnp.arange(memories)[None, None]) & jnp.repeat(live, topk, 1)[
        ..., None
    ]
    rank = jnp.cumsum(hits, axis=1, dtype=jnp.int32)  # how many of its memory stand at or before an assignment
    counts = rank[:, -1]
    own = -(-counts // chunk)
    ends = jnp.cumsum(own, axis=1)
    starts = (ends - own) * chunk
    place = jnp.where(hits, starts[:, None] + rank - 1, 0).sum(-1)
    place = jnp.where(hits.any(-1), place, length)
    rows = jnp.arange(batch)[:, None]
    source = jnp.full((batch, length), -1, jnp.int32).at[rows, place].set(jnp.arange(time * topk)[None], mode="drop")
    number = jnp.arange(chunks)[None]
    slots = jnp.minimum((number[..., None] >= ends[:, None]).sum(-1), memories - 1)
    first = number * chunk == jnp.take_along_axis(starts, slots, axis=1)
    index, current = None, jnp.ones((batch, memories), bool)
    if docs is not None:
        token = jnp.repeat(docs.index, topk, axis=1)
        last = jnp.where(hits, token[..., None], 0).max(axis=1)  # numbers grow along a row
        filled = jnp.take_along_axis(token, jnp.maximum(source, 0), axis=1)
        index = jnp.where(source >= 0, filled, jnp.repeat(jnp.take_along_axis(last, slots, axis=1), chunk, axis=1))
        current = last == docs.index[:, -1:]
    shaped = place.reshape(batch, time, topk)
    return Stream(jnp.maximum(source, 0), source >= 0, shaped, slots, first, counts, starts, index, current)


@jax.custom_vjp
def to_stream(x: Float[Array, "B T F"], stream: Stream) -> Float[Array, "B L F"]:
    """The tokens in the order of the stream, zero where a place holds none. The gradient gathers, too."""
    topk = stream.place.shape[-1]
    taken = jnp.take_along_axis(x, (stream.source // topk)[..., None], axis=1)
    return jnp.where(stream.valid[..., None], taken, 0)


def _to_stream_backward(stream, d):
    return from_stream(d, stream).sum(2), None


to_stream.defvjp(lambda x, stream: (to_stream(x, stream), stream), _to_stream_backward)


@jax.custom_vjp
def from_stream(y: Float[Array, "B L F"], stream: Stream) -> Float[Array, "B T k F"]:
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


from_stream.defvjp(lambda y, stream: (from_stream(y, stream), stream), _from_stream_backward)


@jax.custom_vjp
def times_own(
    x: Float[Array, "n C D"], matrices: Float[Array, "M D F"], slots: Int[Array, "n"]
) -> Float[Array, "n C F"]:
    """Each chunk times the matrix of its memory; no chunk meets the matrices of the others.

    The gradient of the matrices is accumulated in float32, chunk by chunk in place.
    """
    return jax.lax.map(lambda chunk: chunk[0] @ matrices[chunk[1]].astype(x.dtype), (x, slots))


def _times_own_backward(saved, d_y):
    x, matrices, slots = saved

    def step(total, chunk):
        x, d_y, slot = chunk
        matrix = jax.lax.dynamic_index_in_dim(matrices, slot, keepdims=False).astype(x.dtype)
        own = jax.lax.dynamic_index_in_dim(total, slot, keepdims=False)
        own = own + jnp.matmul(x.T, d_y, preferred_element_type=total.dtype)
        return jax.lax.dynamic_update_index_in_dim(total, own, slot, 0), d_y @ matrix.T

    wide = jnp.promote_types(matrices.dtype, jnp.float32)
    total, d_x = jax.lax.scan(step, jnp.zeros(matrices.shape, wide), (x, d_y, slots))
    return d_x, total.astype(matrices.dtype), None


times_own.defvjp(lambda x, matrices, slots: (times_own(x, matrices, slots), (x, matrices, slots)), _times_own_backward)
