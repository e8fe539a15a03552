"""A linear time-invariant system with one input and one output a channel, in chunks of C tokens.

    s_t = A s_{t-1} + B x_t        y_t = c . s_t            R real numbers of state a channel

Inside a chunk y is a causal Toeplitz product with the kernel K_l = c . A^l B; the state that a chunk leaves behind is
A^C times that before it plus a matrix product of its tokens, and what that state says in the next chunk is a third
product. All are exact in causality and cost 2C + 4R flops a token and channel, the scan over chunks aside.

Documents: tokens of one chunk interact in groups of a document; a state reaches only the document it belongs to.
Padding in front of a row is moved to its end, so that it need not hold states back.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from memjax.ops import segments

_LONGEST = 32


class Unrolled(NamedTuple):
    """A system, unrolled over the C tokens of a chunk.

    Attributes:
        kernel: [C, D], kernel[l] = c . A^l B.
        writing: [C, D, R], writing[l] = A^l B.
        reading: [C, D, R], reading[l] = c A^(l + 1).
        scan: (written [B, n, D, R], keeps [B, n] or None, state [B, D, R]) -> state after each chunk [B, n, D, R],
            A^C times the state before (dropped where `keeps` is False) plus what was written.
        advance: (state [B, D, R], count [B]) -> A^count state, count in 0 .. C.
    """

    kernel: Float[Array, "C D"]
    writing: Float[Array, "C D R"]
    reading: Float[Array, "C D R"]
    scan: Callable[..., Array]
    advance: Callable[..., Array]


def chunk_size(time: int) -> int:
    """C, a power of two.

    Gradient of a diagonal system of 64 real states, (B, T, D) = (16, 784, 64), two CPU cores: 151, 91, 100 and 112 ms
    with chunks of 16, 32, 64 and 128.
    """
    return min(_LONGEST, 1 << max(time - 1, 0).bit_length())


def run(
    x: Float[Array, "B T D"],
    system: Unrolled,
    state: Float[Array, "B D R"],
    segment_ids: Int[Array, "B T"] | None,
) -> tuple[Float[Array, "B T D"], Float[Array, "B D R"]]:
    """y [B, T, D] and the last state [B, D, R]; `system` is unrolled over `chunk_size(T)` tokens."""
    batch, time, width = x.shape
    layout = _lay_out(x, segment_ids, system.kernel.shape[0])
    writing = system.writing[::-1]
    written = einsum("jdr,bnjd->bndr", writing, _where(layout.ends, layout.x))
    after = system.scan(written, layout.keeps, state)
    before = jnp.concatenate([state[:, None], after[:, :-1]], axis=1)
    y = _within(layout, system.kernel)
    y = y + _where(layout.continues, einsum("tdr,bndr->bntd", system.reading, before))
    y = y.reshape(batch, -1, width)
    y = y[:, :time] if layout.back is None else jnp.take_along_axis(y, layout.back[..., None], axis=1)
    # the last chunk that holds a token may be left in its middle
    carried = jnp.take_along_axis(before, layout.last_chunk[:, None, None, None], axis=1)[:, 0]
    carried = jnp.where(layout.last_keeps[:, None, None], system.advance(carried, layout.last_count), 0)
    return y, carried + einsum("jdr,bjd->bdr", writing, layout.window)


def einsum(formula: str, *operands: Array) -> Array:
    """States and what is read from them, in full float32 on every platform."""
    return jnp.einsum(formula, *operands, precision="highest")


def parts(a):
    """The real and the imaginary parts one after the other, [..., 2M]; a real array as it is."""
    return jnp.concatenate([a.real, a.imag], axis=-1) if jnp.iscomplexobj(a) else a


def dual(a):
    """What the sum with `parts(s)` of is Re(sum a s)."""
    return jnp.concatenate([a.real, -a.imag], axis=-1) if jnp.iscomplexobj(a) else a


def whole(parts, dtype=jnp.complex64):
    """The inverse of `parts` for an array of `dtype`; which complex one does not matter."""
    if not jnp.issubdtype(dtype, jnp.complexfloating):
        return parts
    return jax.lax.complex(*jnp.split(parts, 2, axis=-1))


class _Layout(NamedTuple):
    """Rows cut into n chunks of C tokens, padding in front of a row moved to its end.

    Attributes:
        x: [B, n, C, D], zero at padding.
        group: [B, n, C] number of a token's document in its chunk, from 0; None, like the masks below, without
            documents.
        ends: [B, n, C] a token's document is that of the chunk's end.
        continues: [B, n, C] a token's document is that of the end of the chunk before, or continues the state.
        keeps: [B, n] no document begins in the chunk.
        back: [B, T] where a token of the input lies in the rows.
        last_chunk: [B] the chunk of the row's last token.
        last_count: [B] tokens of the row in that chunk, 0 in an empty row.
        last_keeps: [B] whether the last token's document was there when that chunk began.
        window: [B, C, D] the tokens of that chunk and document, moved to end at C.
    """

    x: Float[Array, "B n C D"]
    group: Int[Array, "B n C"] | None
    ends: Bool[Array, "B n C"] | None
    continues: Bool[Array, "B n C"] | None
    keeps: Bool[Array, "B n"] | None
    back: Int[Array, "B T"] | None
    last_chunk: Int[Array, "B"]
    last_count: Int[Array, "B"]
    last_keeps: Bool[Array, "B"]
    window: Float[Array, "B C D"]


def _lay_out(x, segment_ids, size):
    batch, time = x.shape[:2]
    count = -(-time // size)
    cut = lambda a: a.reshape(batch, count, size, *a.shape[2:])
    if segment_ids is None:
        rows = jnp.pad(x, ((0, 0), (0, count * size - time), (0, 0)))
        full = jnp.full((batch,), time - (count - 1) * size)
        window = jnp.pad(x, ((0, 0), (size, 0), (0, 0)))[:, -size:]
        window = window * (jnp.arange(size) >= size - (time - (count - 1) * size))[None, :, None]
        last = jnp.full((batch,), count - 1)
        return _Layout(cut(rows), None, None, None, None, None, last, full, jnp.ones((batch,), bool), window)
    docs = segments.documents(segment_ids)
    lead = jnp.argmax(docs.valid, axis=1)[:, None]
    place = jnp.arange(count * size)[None] + lead
    take = lambda a: jnp.take_along_axis(a, jnp.minimum(place, time - 1), axis=1)
    index, valid = take(docs.index), take(docs.valid) & (place < time)
    rows = jnp.take_along_axis(x, jnp.minimum(place, time - 1)[..., None], axis=1)
    rows = jnp.where(valid[..., None], rows, 0)
    length = jnp.max(jnp.where(valid, jnp.arange(count * size)[None] + 1, 0), axis=1)
    chunks = cut(index)
    end = chunks[:, :, -1]
    before = jnp.pad(end[:, :-1], ((0, 0), (1, 0)))
    last_chunk = jnp.maximum(length - 1, 0) // size
    mine = (index == index[:, -1:]) & (jnp.arange(count * size)[None] >= last_chunk[:, None] * size)
    place = length[:, None] - size + jnp.arange(size)[None]
    window = jnp.take_along_axis(jnp.where(mine[..., None], rows, 0), jnp.maximum(place, 0)[..., None], axis=1)
    return _Layout(
        x=cut(rows),
        group=chunks - chunks[:, :, :1],
        ends=chunks == end[..., None],
        continues=chunks == before[..., None],
        keeps=end == before,
        back=jnp.maximum(jnp.arange(time)[None] - lead, 0),
        last_chunk=last_chunk,
        last_count=length - last_chunk * size,
        last_keeps=jnp.take_along_axis(before, last_chunk[:, None], axis=1)[:, 0] == index[:, -1],
        window=jnp.where((place >= 0)[..., None], window, 0),
    )


def _within(layout, kernel):
    """What the tokens of a chunk say to each other, [B, n, C, D]."""
    steps = jnp.arange(kernel.shape[0])
    lag = steps[:, None] - steps[None, :]
    toeplitz = jnp.where(lag[..., None] >= 0, kernel[jnp.maximum(lag, 0)], 0)  # [t, j, D]
    if layout.group is None:
        return einsum("tjd,bnjd->bntd", toeplitz, layout.x)
    return _grouped_product(toeplitz, layout.x, layout.group)


@jax.custom_vjp
def _grouped_product(matrix, x, group):
    """y_t = sum of matrix[t, j] x_j over the j of t's group: a product for each number that occurs in `group`.

    One masked product for all would store a matrix a chunk and channel, or run as a slow fused sum: 0.76 s in place of
    0.18 s of gradient at the size that `chunk_size` names. Chunks hold few documents, so the loop is short.
    """
    return _product_by_group("tjd,bnjd->bntd", matrix, x, group)


def _product_by_group(formula, matrix, x, group):
    def add(number, y):
        mine = group == number
        return y + _where(mine, einsum(formula, matrix, _where(mine, x)))

    return jax.lax.fori_loop(0, group.max() + 1, add, jnp.zeros_like(x))


def _grouped_forward(matrix, x, group):
    return _grouped_product(matrix, x, group), (matrix, x, group)


def _grouped_backward(saved, d_y):
    matrix, x, group = saved

    def add(number, d_matrix):
        mine = group == number
        return d_matrix + einsum("bntd,bnjd->tjd", _where(mine, d_y), _where(mine, x))

    d_matrix = jax.lax.fori_loop(0, group.max() + 1, add, jnp.zeros_like(matrix))
    return d_matrix, _product_by_group("tjd,bntd->bnjd", matrix, d_y, group), None


_grouped_product.defvjp(_grouped_forward, _grouped_backward)


def _where(mask, a):
    return a if mask is None else jnp.where(mask[..., None], a, 0)
