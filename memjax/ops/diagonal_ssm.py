"""One input and one output per channel through a diagonal state: the map of S4D (arXiv 2206.11893).

    s_t = decay s_{t-1} + write x_t        y_t = Re(sum_m read_m s_t,m)        M modes a channel, constant in time

| mode        | form                                                                              | memory           |
|-------------|-----------------------------------------------------------------------------------|------------------|
| recurrence  | `linear_scan` over all modes                                                      | [B, T, D, M]     |
| convolution | FFT with the kernel K_l = Re(sum read decay^l write), the state's response added  | [T, D, M]        |
| chunked     | inside C tokens a causal Toeplitz product with K, between chunks a scan of states | [B, T/C, D, M]   |

The FFT mixes all times: its outputs depend on later inputs by rounding. The other two are causal to the last bit and
know documents. Gradient of all inputs at (B, T, D) = (16, 784, 64), 32 complex modes, on two CPU cores: 91 ms in
chunks, 157 by convolution, 1315 by recurrence; 42, 93 and 789 MiB of temporary memory.
"""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, Int

from memjax.ops import ssm_chunks
from memjax.ops.fft_conv import fft_conv
from memjax.ops.linear_scan import linear_scan

Mode = Literal["convolution", "chunked", "recurrence"]


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
    y = y + ssm_chunks.einsum("tdm,bdm->btd", ssm_chunks.dual(table[1:] * read[None]), ssm_chunks.parts(state))
    written = ssm_chunks.einsum("tdm,btd->bdm", ssm_chunks.parts(table[time - 1 :: -1] * write[None]), x)
    return y, table[time][None] * state + ssm_chunks.whole(written, state.dtype)


def _chunked(x, decay, write, read, state, segment_ids):
    size = ssm_chunks.chunk_size(x.shape[1])
    table = powers(decay, size + 1)
    flat = lambda a: a.reshape(*a.shape[:-2], -1)

    def scan(written, keeps, state):
        written, state = ssm_chunks.whole(written, decay.dtype), ssm_chunks.whole(state, decay.dtype)
        through = table[size] if keeps is None else jnp.where(keeps[..., None, None], table[size], 0)
        h, _ = linear_scan(flat(through), flat(written), initial_state=flat(state))
        return ssm_chunks.parts(h.reshape(written.shape))

    system = ssm_chunks.Unrolled(
        kernel=(table[:-1] * (read * write)[None]).real.sum(-1),
        writing=ssm_chunks.parts(table[:-1] * write[None]),
        reading=ssm_chunks.dual(table[1:] * read[None]),
        scan=scan,
        advance=lambda state, count: ssm_chunks.parts(ssm_chunks.whole(state, decay.dtype) * table[count]),
    )
    y, last = ssm_chunks.run(x, system, ssm_chunks.parts(state), segment_ids)
    return y, ssm_chunks.whole(last, decay.dtype)
