"""State-space models that are diagonal plus low rank, the systems of S4 (arXiv 2111.00396).

    s' = A s + B u     y = C s     A = Lambda - P P^*     by the bilinear rule with step dt:
    Abar = (I - dt/2 A)^-1 (I + dt/2 A)     Bbar = dt (I - dt/2 A)^-1 B     K_l = C Abar^l Bbar

The N states come in conjugate pairs of which M = N/2 are kept, so a sum over all is twice the real part of a sum over
the kept ones, and a step is linear in the 2M real numbers (Re s, Im s). With Re Lambda < 0 every step is a contraction,
whatever Lambda and P: the Hermitian part of A is Re Lambda - P P^*.

| form        | of the map                                                            | flops of T tokens, a channel |
|-------------|-----------------------------------------------------------------------|------------------------------|
| recurrence  | one step a token, the inverse by Woodbury's identity                  | O(T N)                       |
| convolution | K by its generating function at the roots of unity, then FFTs         | O(T N + N^3 log T)           |
| chunked     | `ssm_chunks`, on powers of the dense Abar by squaring                 | O(T N + T N^2/C + N^3)       |

The generating function of the kernel of length L at w = exp(-2 pi i j / L), written without the pole that the usual
form has at w = -1 (there both 2/(1+w) and its bracket's argument are infinite):

    Khat(w) = 2 [S_CB - (1+w) S_CP (1 + (1+w) S_PP)^-1 S_PB]     S_vw = sum_n v_n w_n / ((2/dt)(1-w) - Lambda_n (1+w))

with C - C Abar^L for C, which cuts the infinite kernel at L. C is the system's own and not that of one length.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int

from memjax.ops import segments, ssm_chunks
from memjax.ops.fft_conv import fft_conv

Mode = Literal["convolution", "chunked", "recurrence"]


class DPLR(NamedTuple):
    """D systems. One of each conjugate pair of states is given, the other is implied.

    Attributes:
        eigenvalues: Lambda [D, M], complex, real parts negative.
        p: P [D, M].
        b: B [D, M].
        c: C [D, M], not conjugated: y = 2 Re(sum_m c_m s_m).
        dt: [D] step, positive.
    """

    eigenvalues: Complex[Array, "D M"]
    p: Complex[Array, "D M"]
    b: Complex[Array, "D M"]
    c: Complex[Array, "D M"]
    dt: Float[Array, "D"]


def dplr_ssm(
    x: Float[Array, "B T D"],
    system: DPLR,
    *,
    initial_state: Complex[Array, "B D M"] | None = None,
    segment_ids: Int[Array, "B T"] | None = None,
    mode: Mode | None = None,
) -> tuple[Float[Array, "B T D"], Complex[Array, "B D M"]]:
    """Runs s_t = Abar s_{t-1} + Bbar x_t, y_t = 2 Re(c . s_t), every channel on its own.

    Args:
        x: [B, T, D] real.
        system: the D systems.
        initial_state: [B, D, M] before the first token, zeros when None.
        segment_ids: [B, T]; 0 is padding (state untouched), a change of number begins a document with an empty state.
            The first document that the row meets continues `initial_state`.
        mode: see the head of this file; None takes "chunked". A single token is always a step of the recurrence.

    Returns:
        y [B, T, D] and the last state [B, D, M], of the width of the system.

    Raises:
        NotImplementedError: mode "convolution" with `segment_ids`.
    """
    dtype = system.eigenvalues.dtype
    x = x.astype(system.dt.dtype)
    shape = (x.shape[0], *system.eigenvalues.shape)
    state = jnp.zeros(shape, dtype) if initial_state is None else initial_state.astype(dtype)
    if x.shape[1] == 1 or mode == "recurrence":
        return _recurrence(x, system, state, segment_ids)
    if mode == "convolution":
        if segment_ids is not None:
            raise NotImplementedError("mode 'convolution' knows no documents inside a row; use 'chunked' or None")
        return _convolution(x, system, state)
    y, last = ssm_chunks.run(
        x, _unroll(system, ssm_chunks.chunk_size(x.shape[1])), ssm_chunks.parts(state), segment_ids
    )
    return y, ssm_chunks.whole(last)


def dplr_kernel(system: DPLR, length: int) -> Float[Array, "L D"]:
    """K_0 .. K_{L-1} of every channel, by the pole-free generating function.

    Memory is O(L D + D N^2 log L): the sums run over one state at a time.

    Raises:
        ValueError: a length below 1.
    """
    if length < 1:
        raise ValueError(f"dplr_kernel: length={length} must be positive")
    eigenvalues, p, b, c, dt = system
    c = c - ssm_chunks.whole(_row_power(ssm_chunks.dual(2 * c), _dense(system), length)).conj() / 2
    w = np.exp(-2j * np.pi * np.arange(length // 2 + 1) / length)
    wide = eigenvalues.dtype
    minus, plus = jnp.asarray(1 - w, wide)[:, None], jnp.asarray(1 + w, wide)[:, None]
    products = (c * b, c * p, p.conj() * p, p.conj() * b)
    cb, cp, pp, pb = _sums(eigenvalues, products, (2 / dt)[None] * minus, plus)
    return jnp.fft.irfft(2 * (cb - plus * cp * pb / (1 + plus * pp)), length, axis=0)


def _sums(eigenvalues, products, minus, plus):
    """S_vw at each frequency, [F, D], for each product v w [D, M]; the implied half of the states included.

    One state after the other: written as sums over an axis, XLA on a CPU stores the [F, D, M] terms (74 against 14 MiB
    of temporary memory for the gradient at L = 784, D = 64, N = 64, and no faster).
    """

    def add(sums, state):
        eigenvalue, *products = state
        above = 1 / (minus - plus * eigenvalue[None])
        below = 1 / (minus - plus * eigenvalue.conj()[None])
        terms = (product[None] * above + product.conj()[None] * below for product in products)
        return tuple(total + term for total, term in zip(sums, terms, strict=True)), None

    # nothing of a state is kept for the backward pass: its terms are computed anew
    zeros = tuple(jnp.zeros((minus.shape[0], eigenvalues.shape[0]), eigenvalues.dtype) for _ in products)
    by_state = tuple(a.T for a in (eigenvalues, *products))
    return jax.lax.scan(jax.checkpoint(add, prevent_cse=False), zeros, by_state)[0]


def step(
    system: DPLR, state: Complex[Array, "*batch D M"], x: Float[Array, "*batch D"]
) -> Complex[Array, "*batch D M"]:
    """Abar s + Bbar x in O(N): (I - h A)^-1 (s + h A s + dt B x), h = dt / 2, the inverse by Woodbury's identity."""
    lead = (None,) * (state.ndim - 2)
    eigenvalues, p, b = (a[lead] for a in system[:3])
    dt = system.dt[:, None][lead]
    half, paired = dt / 2, lambda a: 2 * a.real.sum(-1, keepdims=True)
    pushed = state + half * (eigenvalues * state - p * paired(p.conj() * state)) + dt * b * x[..., None]
    inverse = 1 / (1 - half * eigenvalues)
    solved = inverse * pushed
    low_rank = half * paired(p.conj() * solved) / (1 + half * paired(p.conj() * inverse * p))
    return solved - inverse * p * low_rank


def _recurrence(x, system, state, segment_ids):
    if segment_ids is None:
        first, valid = jnp.zeros(x.shape[:2], bool), jnp.ones(x.shape[:2], bool)
    else:
        docs = segments.documents(segment_ids)
        first, valid = jnp.diff(docs.index, axis=1, prepend=0) > 0, docs.valid

    def token(state, inputs):
        x, first, valid = inputs
        after = step(system, jnp.where(first[:, None, None], 0, state), x)
        state = jnp.where(valid[:, None, None], after, state)
        return state, 2 * (system.c[None] * state).real.sum(-1)

    last, y = jax.lax.scan(token, state, tuple(jnp.moveaxis(a, 1, 0) for a in (x, first, valid)))
    return jnp.moveaxis(y, 0, 1), last


def _convolution(x, system, state):
    """FFT for what the tokens say to each other; the state's response and the last state from the chunks."""
    chunks = _unroll(system, ssm_chunks.chunk_size(x.shape[1]))
    y = fft_conv(x, dplr_kernel(system, x.shape[1]))
    response, _ = ssm_chunks.run(jnp.zeros_like(x), chunks, ssm_chunks.parts(state), None)
    _, last = ssm_chunks.run(x, chunks, ssm_chunks.parts(state), None)
    return y + response, ssm_chunks.whole(last)


def _unroll(system, size):
    """`size`, a power of two, tokens of the system in its real form."""
    squares = [_dense(system)]  # Abar^(2^k)
    while 1 << len(squares) <= size:
        squares.append(_product(squares[-1], squares[-1]))
    c = ssm_chunks.dual(2 * system.c)
    writing = ssm_chunks.parts(step(system, jnp.zeros_like(system.b), jnp.ones_like(system.dt)))[None]
    reading = ssm_chunks.einsum("dj,dji->di", c, squares[0])[None]
    for square in squares[:-1]:
        writing = jnp.concatenate([writing, _apply(square, writing)])
        reading = jnp.concatenate([reading, ssm_chunks.einsum("ldj,dji->ldi", reading, square)])

    def scan(written, keeps, state):
        def chunk(state, inputs):
            written, keeps = inputs
            state = written + jnp.where(keeps[:, None, None], _apply(squares[-1], state), 0)
            return state, state

        keeps = jnp.ones(written.shape[:2], bool) if keeps is None else keeps
        return jnp.moveaxis(jax.lax.scan(chunk, state, (jnp.moveaxis(written, 1, 0), keeps.T))[1], 0, 1)

    def advance(state, count):
        for bit, square in enumerate(squares):
            state = jnp.where((count >> bit & 1 > 0)[:, None, None], _apply(square, state), state)
        return state

    return ssm_chunks.Unrolled(ssm_chunks.einsum("dr,ldr->ld", c, writing), writing, reading, scan, advance)


def _dense(system):
    """Abar as a real matrix on (Re s, Im s), [D, 2M, 2M]: column i is what a step makes of the i-th unit vector."""
    width, modes = system.eigenvalues.shape
    units = jnp.broadcast_to(jnp.eye(2 * modes, dtype=system.dt.dtype)[:, None], (2 * modes, width, 2 * modes))
    columns = ssm_chunks.parts(step(system, ssm_chunks.whole(units), jnp.zeros((2 * modes, width), system.dt.dtype)))
    return jnp.moveaxis(columns, 0, 2)


def _row_power(row, matrix, exponent):
    """row matrix^exponent by repeated squaring, row [D, 2M]."""
    while True:
        if exponent & 1:
            row = ssm_chunks.einsum("dj,dji->di", row, matrix)
        exponent >>= 1
        if not exponent:
            return row
        matrix = _product(matrix, matrix)


def _product(a, b):
    return ssm_chunks.einsum("dij,djk->dik", a, b)


def _apply(matrix, states):
    return ssm_chunks.einsum("dji,bdi->bdj", matrix, states)
