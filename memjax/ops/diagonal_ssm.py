"""One input and one output per channel through a diagonal state: the map of S4D (arXiv 2206.11893).

    s_t = decay s_{t-1} + write x_t        y_t = Re(sum_m read_m s_t,m)        M modes a channel, constant in time

| mode        | form                                                                              | memory           |
|-------------|-----------------------------------------------------------------------------------|------------------|
| recurrence  | `linear_scan` over all modes                                                      | [B, T, D, M]     |
| convolution | FFT with the kernel K_l = Re(sum read decay^l write), the state's response added  | [T, D, M]        |
| chunked     | inside C tokens a causal Toeplitz product with K, between chunks a scan of states | [B, T/C, D, M]   |

The FFT mixes all times: its outputs depend on later inputs by rounding. The other two are causal to the last bit and
know documents. Chunks are matrix products of sizes C and 2M, so they cost (2C + 8M) flops a token and channel.

Gradient of all inputs at (B, T, D) = (16, 784, 64), M = 32 complex modes, on two CPU cores: see `_CHUNK`.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact, Int

from memjax.ops import segments
from memjax.ops.fft_conv import fft_conv
from memjax.ops.linear_scan import linear_scan

Mode = Literal["convolution", "chunked", "recurrence"]
_CHUNK = 32


def diagonal_ssm(
    x: Float[Array, "B T D"],
    decay: Inexact[Array, "D M"],
    write: Inexact[Array, "D M"],
    read: Inexact[Array, "D M"],
    *,
    initial_state: Inexact[Array, "B D M"] | None = None,
    segment_ids: Int[Array, "B T"] | None = None,
    mode: Mode | None = None,
) -> tuple[Float[Array, "B T D"], Inexact[Array, "B D M"]]:
    """Runs s_t = decay s_{t-1} + write x_t, y_t = Re(sum_m read_m s_t,m), every channel on its own.

    Args:
        x: [B, T, D] real.
        decay, write, read: [D, M] each, all float32 or all complex64 (or their double widths). Of a conjugate pair
            of modes one is given, with `read` doubled.
        initial_state: [B, D, M] before the first token, zeros when None.
        segment_ids: [B, T]; 0 is padding (state untouched), a change of number begins a document with an empty state.
            The first document that the row meets continues `initial_state`.
        mode: see the head of this file; None takes "chunked". A single token is always a step of the recurrence.

    Returns:
        y [B, T, D] and the last state [B, D, M], of the width of `decay`.

    Raises:
        ValueError: an unknown mode.
        NotImplementedError: mode "convolution" with `segment_ids`.
    """
    state = jnp.zeros((x.shape[0], *decay.shape), decay.dtype) if initial_state is None else initial_state
    x = x.astype(jnp.finfo(decay.dtype).dtype)
    if mode not in (None, "convolution", "chunked", "recurrence"):
        raise ValueError(f"unknown mode {mode!r}; one of convolution, chunked, recurrence")
    if x.shape[1] == 1 or mode == "recurrence":
        return _recurrence(x, decay, write, read, state, segment_ids)
    if mode == "convolution":
        if segment_ids is not None:
            raise NotImplementedError("mode 'convolution' knows no documents inside a row; use 'chunked' or None")
        return _convolution(x, decay, write, read, state)
    return _chunked(x, decay, write, read, state, segment_ids)


def powers(decay: Inexact[Array, "*shape"], count: int) -> Inexact[Array, "L *shape"]:
    """decay^0 .. decay^(count - 1), as products of repeated squares.

    The relative error of decay^l is at most that of l steps of the recurrence. exp(l log decay) in float32 rounds the
    phase l Im(log decay), thousands of radians at the end of a long kernel, and is several times worse.
    """
    exponent = jnp.arange(count).reshape(-1, *[1] * decay.ndim)
    table, square, bit = jnp.ones((count, *decay.shape), decay.dtype), decay, 1
    while bit < count:
        table = jnp.where(exponent & bit > 0, table * square[None], table)
        square, bit = square * square, 2 * bit
    return table


def _recurrence(x, decay, write, read, state, segment_ids):
    batch, time, width = x.shape
    flat = lambda a: a.reshape(*a.shape[:-2], -1)
    h, last = linear_scan(
        flat(decay), flat(x[..., None] * write[None, None]), initial_state=flat(state), segment_ids=segment_ids
    )
    y = (h.reshape(batch, time, width, -1) * read[None, None]).real.sum(-1)
    return y, last.reshape(state.shape)


def _convolution(x, decay, write, read, state):
    time = x.shape[1]
    table = powers(decay, time + 1)
    y = fft_conv(x, (table[:-1] * (read * write)[None]).real.sum(-1))
    y = y + _einsum("tdm,bdm->btd", _dual(table[1:] * read[None]), _parts(state))
    written = _einsum("tdm,btd->bdm", _parts(table[time - 1 :: -1] * write[None]), x)
    return y, table[time][None] * state + _whole(written, state.dtype)


def _chunked(x, decay, write, read, state, segment_ids):
    batch, time, width = x.shape
    size = min(_CHUNK, time)
    layout = _lay_out(x, segment_ids, size)
    table = powers(decay, size + 1)
    kernel = (table[:-1] * (read * write)[None]).real.sum(-1)
    writing = _parts(table[size - 1 :: -1] * write[None])

    written = _whole(_einsum("jdm,bnjd->bndm", writing, _where(layout.ends, layout.x)), state.dtype)
    flat = lambda a: a.reshape(*a.shape[:-2], -1)
    through = table[size] if layout.keeps is None else jnp.where(layout.keeps[..., None, None], table[size], 0)
    h, _ = linear_scan(flat(through), flat(written), initial_state=flat(state))
    before = jnp.concatenate([state[:, None], h.reshape(written.shape)[:, :-1]], axis=1)

    y = _within(layout, kernel)
    y = y + _where(layout.continues, _einsum("tdm,bndm->bntd", _dual(table[1:] * read[None]), _parts(before)))
    y = y.reshape(batch, -1, width)
    y = y[:, :time] if layout.back is None else jnp.take_along_axis(y, layout.back[..., None], axis=1)

    # the last chunk that holds a token may be left in its middle
    at = layout.last_chunk
    carried = jnp.take_along_axis(before, at[:, None, None, None], axis=1)[:, 0] * table[layout.last_count]
    carried = jnp.where(layout.last_keeps[:, None, None], carried, 0)
    return y, carried + _whole(_einsum("jdm,bjd->bdm", writing, layout.window), state.dtype)


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
        return _einsum("tjd,bnjd->bntd", toeplitz, layout.x)
    return _grouped_product(toeplitz, layout.x, layout.group)


@jax.custom_vjp
def _grouped_product(matrix, x, group):
    """y_t = sum of matrix[t, j] x_j over the j of t's group: a product for each number that occurs in `group`.

    One masked product for all would store a matrix a chunk and channel, or run as a slow fused sum: 0.8 s in place of
    0.1 s of gradient at the size in the head of this file. Chunks hold few documents, so the loop is short.
    """
    return _product_by_group("tjd,bnjd->bntd", matrix, x, group)


def _product_by_group(formula, matrix, x, group):
    def add(number, y):
        mine = group == number
        return y + _where(mine, _einsum(formula, matrix, _where(mine, x)))

    return jax.lax.fori_loop(0, group.max() + 1, add, jnp.zeros_like(x))


def _grouped_forward(matrix, x, group):
    return _grouped_product(matrix, x, group), (matrix, x, group)


def _grouped_backward(saved, d_y):
    matrix, x, group = saved

    def add(number, d_matrix):
        mine = group == number
        return d_matrix + _einsum("bntd,bnjd->tjd", _where(mine, d_y), _where(mine, x))

    d_matrix = jax.lax.fori_loop(0, group.max() + 1, add, jnp.zeros_like(matrix))
    return d_matrix, _product_by_group("tjd,bntd->bnjd", matrix, d_y, group), None


_grouped_product.defvjp(_grouped_forward, _grouped_backward)


def _where(mask, a):
    return a if mask is None else jnp.where(mask[..., None], a, 0)


def _einsum(formula, *operands):
    return jnp.einsum(formula, *operands, precision="highest")


def _parts(a):
    """The real and the imaginary parts one after the other, [..., 2M]; a real array as it is."""
    return jnp.concatenate([a.real, a.imag], axis=-1) if jnp.iscomplexobj(a) else a


def _dual(a):
    """What the sum with `_parts(s)` of is Re(sum a s)."""
    return jnp.concatenate([a.real, -a.imag], axis=-1) if jnp.iscomplexobj(a) else a


def _whole(parts, dtype):
    """The inverse of `_parts`."""
    if not jnp.issubdtype(dtype, jnp.complexfloating):
        return parts
    return jax.lax.complex(*jnp.split(parts, 2, axis=-1))
