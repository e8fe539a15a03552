"""HiPPO: the history of a signal as coefficients on orthogonal polynomials, kept up to date by a linear equation.

    x' = A x + B u                      "legt" (a sliding window), "lagt" (exponential forgetting), "fout" (a window)
    x' = (A x + B u) / t                "legs": all of [0, t], every past instant with the same weight

| measure | x_n(t)                                                              | A and B describe it            |
|---------|---------------------------------------------------------------------|--------------------------------|
| legs    | integral_0^1 u(t y) g_n(y) dy,  g_n(y) = sqrt(2n+1) P_n(2y - 1)     | exactly                        |
| legt    | integral_0^1 u(t - 1 + y) g_n(y) dy                                 | exactly if u is of degree < n  |
| lagt    | integral_0^inf u(t - s) exp(-s/2) L_n(s) ds                         | exactly                        |
| fout    | 1/2 integral_0^2 u(t - s) f_n(s) ds,  f_0 = 1, f_1 = 0,             | with u(t) + u(t - 2) read off  |
|         | f_2j(s) = sqrt(2) cos(pi j s), f_2j+1(s) = sqrt(2) sin(pi j s)      | the truncated series           |

Sources: Gu et al., HiPPO (arXiv 2008.07669) for LegS, LegT and LagT; Gu et al., How to Train Your HiPPO (arXiv
2206.12037) for FouT; Gu et al., S4 (arXiv 2111.00396) for the normal-plus-low-rank form; Gu et al., S4D (arXiv
2206.11893) for the diagonal initialisations.

`project` runs LegS over a sampled signal in O(n) per step, without any matrix. A is lower triangular, and below the
diagonal it is the product r r^T with r_n = sqrt(2n+1), so A c and (I - d A)^-1 c need a single running sum over n:

    (A c)_n = -(n+1) c_n - r_n S_n,  S_n = sum_{m<n} r_m c_m

The sum is serial in n and the steps are serial in time, but coefficient n at step i needs only its own past and the
sum that coefficient n - 1 hands on at step i. So the work is done along anti-diagonals: at tick i + n all cells
advance at once, each one step behind its left neighbour, and T steps take T + n - 1 ticks of elementwise work. Where a
sample depends on the coefficients before it, `step` takes one step at a time.
"""

from collections.abc import Callable
from math import factorial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex128, Float, Float64

Measure = Literal["legs", "legt", "lagt", "fout"]
Init = Literal["legs", "lin", "inv", "real"]


def transition(measure: Measure, n: int) -> tuple[Float64[np.ndarray, "N N"], Float64[np.ndarray, "N"]]:
    """The matrices of x' = A x + B u (for "legs": of t x' = A x + B u).

    Args:
        measure: see the table at the head of this file.
        n: size of the state, at least 1; even for "fout", whose states 2j and 2j + 1 are the cosine and the sine of
            frequency pi j.

    Returns:
        A [n, n] and B [n], float64 numpy.

    Raises:
        ValueError: an unknown measure, n < 1, an odd n for "fout".
    """
    _check_size(n, even=measure == "fout")
    index = np.arange(n)
    r = np.sqrt(2.0 * index + 1)
    row, column = index[:, None], index[None, :]
    if measure == "legs":
        return np.where(row > column, -np.outer(r, r), np.diag(-(index + 1.0))), r
    if measure == "legt":
        return np.where(row < column, (-1.0) ** (row - column), 1.0) * -np.outer(r, r), r
    if measure == "lagt":
        return 0.5 * np.eye(n) - np.tril(np.ones((n, n))), np.ones(n)
    if measure == "fout":
        b = np.where(index % 2 == 0, np.sqrt(2.0), 0.0)
        b[0] = 1
        a = -np.outer(b, b)
        cosine, angular = index[::2], np.pi * np.arange(n // 2)
        a[cosine, cosine + 1] -= angular
        a[cosine + 1, cosine] += angular
        return a, b
    raise ValueError(f"unknown measure {measure!r}; one of legs, legt, lagt, fout")


def normal_plus_low_rank(
    measure: Measure, n: int
) -> tuple[Float64[np.ndarray, "N N"], Float64[np.ndarray, "N rank"], Float64[np.ndarray, "N"]]:
    """A = S - P P^T with S normal: -1/2 I plus a skew-symmetric matrix for "legs", skew-symmetric for the others.

    Returns:
        S [n, n], P [n, rank] (rank 2 for "legt", else 1) and B [n], float64 numpy.

    Raises:
        ValueError: as `transition`.
    """
    a, b = transition(measure, n)
    even = (np.arange(n) % 2 == 0).astype(np.float64)
    p = {
        "legs": b[:, None] / np.sqrt(2.0),
        "legt": np.stack([b * even, b * (1 - even)], axis=1),
        "lagt": np.full((n, 1), np.sqrt(0.5)),
        "fout": b[:, None],
    }[measure]
    shift = 0.5 if measure == "legs" else 0.0
    rest = a + p @ p.T
    # the symmetric part is -shift I but for rounding; made so exactly
    return 0.5 * (rest - rest.T) - shift * np.eye(n), p, b


class DiagonalPlusLowRank(NamedTuple):
    """x = 2 Re(V z), z = V^H x and z' = (diag(eigenvalues) - p p^H) z + ... in the basis of the normal part.

    Attributes:
        eigenvalues: [n/2] those with positive imaginary part, ascending ("fout" begins at 0).
        p: [n/2, rank] V^H P.
        b: [n/2] V^H B.
        basis: [n, n/2] V; V and its conjugate together are unitary.
    """

    eigenvalues: Complex128[np.ndarray, "M"]
    p: Complex128[np.ndarray, "M rank"]
    b: Complex128[np.ndarray, "M"]
    basis: Complex128[np.ndarray, "N M"]


def diagonal_plus_low_rank(measure: Measure, n: int) -> DiagonalPlusLowRank:
    """The normal-plus-low-rank form in the eigenbasis of its normal part, one of each conjugate pair; n is even.

    The normal part is diagonalised by `eigh` on the Hermitian matrix S / i: its eigenvectors are orthonormal, while
    those of LegS itself are singular to working precision from n = 32 on.

    Raises:
        ValueError: as `transition`, or an odd n.
    """
    _check_size(n, even=True)
    normal, p, b = normal_plus_low_rank(measure, n)
    half = n // 2
    if measure == "fout":  # known in closed form; the double eigenvalue 0 leaves eigh a choice
        frequencies = np.pi * np.arange(half)
        basis = np.zeros((n, half), np.complex128)
        basis[2 * np.arange(half), np.arange(half)] = np.sqrt(0.5)
        basis[2 * np.arange(half) + 1, np.arange(half)] = -1j * np.sqrt(0.5)
    else:
        frequencies, vectors = np.linalg.eigh(-0.5j * (normal - normal.T))
        frequencies, basis = frequencies[half:], vectors[:, half:]
    eigenvalues = (-0.5 if measure == "legs" else 0.0) + 1j * frequencies
    return DiagonalPlusLowRank(eigenvalues, basis.conj().T @ p, basis.conj().T @ b, basis)


def diagonal(init: Init, n: int) -> Complex128[np.ndarray, "M"] | Float64[np.ndarray, "M"]:
    """Eigenvalues that a diagonal state-space model of n real states begins with.

    Args:
        init: "legs" (normal part of LegS), "lin" (-1/2 + i pi m), "inv" (-1/2 + i (n/pi)(n/(2m+1) - 1)),
            "real" (-(m+1)).
        n: number of real states; even except for "real".

    Returns:
        [n/2] complex128, one of each conjugate pair; [n] float64 for "real".

    Raises:
        ValueError: an unknown init, n < 1, an odd n.
    """
    _check_size(n, even=init != "real")
    m = np.arange(n // 2)
    if init == "legs":
        return diagonal_plus_low_rank("legs", n).eigenvalues
    if init == "lin":
        return -0.5 + 1j * np.pi * m
    if init == "inv":
        return -0.5 + 1j * (n / np.pi) * (n / (2 * m + 1) - 1)
    if init == "real":
        return -(np.arange(n) + 1.0)
    raise ValueError(f"unknown init {init!r}; one of legs, lin, inv, real")


def _check_size(n: int, *, even: bool) -> None:
    if n < 1 or (even and n % 2):
        raise ValueError(f"the state has size {n}; it must be {'even and ' if even else ''}positive")


def project(signal: Float[Array, "*batch T"], n: int, method: str = "bilinear") -> Float[Array, "*batch T N"]:
    """LegS coefficients of the history at every sample: c_k from c_{k-1} by (A/k, B/k) and sample k, k = 1 .. T.

    Linear in the signal, which is its only differentiable argument. c_0 = 0.

    Args:
        signal: [..., T], T >= 1, samples one unit of time apart.
        n: number of coefficients.
        method:
            "bilinear": c_k = (I - A/2k)^-1 ((I + A/2k) c_{k-1} + (B/k) u_k), second order.
            "backward_euler": c_k = (I - A/k)^-1 (c_{k-1} + (B/k) u_k), first order.
            "zoh": the exact solution over log time log((k+1)/k) for a signal that is constant between samples,
                c_k = E c_{k-1} + A^-1 (E - I) B u_k with E = expm(A log((k+1)/k)). Sample k is thus held over [k, k+1]
                and c_k remembers a history of length k + 1, sample j around (j + 1/2) / (k + 1).

    E is dense and is not formed: a rational function of A stands for it, four complex backward Euler steps of O(n)
    each, with an error below 1e-11 once k > n^2 / 19. An earlier sample is split into up to n^2 / 19k equal parts, so
    that T samples take at most T + (n^2 / 19) (1 + log T) of these applications: O(n) per sample when T is much
    larger than n^2, and more than that for a short signal on a large state.

    Returns:
        [..., T, n] in float32 (float64 for a float64 signal).

    Raises:
        ValueError: method "forward_euler" or an unknown one, an empty signal, n < 1.
    """
    _check_size(n, even=False)
    signal = jnp.asarray(signal)
    samples = signal.shape[-1]
    if not samples:
        raise ValueError("hippo.project: the signal is empty (T = 0)")
    dtype = jnp.promote_types(signal.dtype, jnp.float32)
    k = np.arange(1, samples + 1)
    if method in ("bilinear", "backward_euler"):
        cell = _theta_cell(n, 0.5 if method == "bilinear" else 1.0, dtype)
        length, repeats = 1 / k, np.ones_like(k)
    elif method == "zoh":
        cell = _exponential_cell(n, dtype)
        length = np.log1p(1 / k)
        repeats = np.ceil(length * n**2 / (np.pi * _REACH)).astype(k.dtype)
    elif method == "forward_euler":
        raise ValueError(
            f"hippo.project refuses forward Euler: I + A/k has the eigenvalues 1 - m/k, m = 1 .. n, of size up to "
            f"n - 1 = {n - 1} at k = 1, so that early samples overflow; use 'bilinear', 'zoh' or 'backward_euler'"
        )
    else:
        raise ValueError(f"unknown method {method!r}; one of bilinear, zoh, backward_euler")
    rows = signal.astype(dtype).reshape(-1, samples).T  # [T, rows]
    held = rows[np.repeat(np.arange(samples), repeats)]
    lengths = np.repeat(length / repeats, repeats)
    states = _sweep(cell, held, jnp.asarray(lengths, dtype), n)
    # cell m finishes sample k at tick ends[k] + m
    ends = np.cumsum(repeats) - 1
    cells = np.arange(n)
    out = states[ends[:, None] + cells[None], :, cells[None]]  # [T, n, rows]
    return jnp.moveaxis(out, 2, 0).reshape(*signal.shape, n)


def step(
    coefficients: Float[Array, "*batch N"],
    sample: Float[Array, "*#batch"],
    k: Array,
    method: str = "bilinear",
) -> Float[Array, "*batch N"]:
    """One step of `project`, for a sample that is known only once the step before it is done: c_k from c_{k-1}.

    Solving for c_k runs down the coefficients,

        S_{n+1} = q_n S_n + p_n,    S_n = sum_{m<n} r_m c_k[m],    q_n = (1 - n d) / (1 + (n+1) d)

    with d the implicit share of 1/k; |q_n| <= 1. An associative scan takes it in log2(n) passes of O(n) work in all.

    Args:
        coefficients: [..., n], c_{k-1}; zeros before the first sample.
        sample: [...], sample k of every row.
        k: number of the sample in its history, from 1; int or float, of a shape that broadcasts with `sample`.
        method: as in `project`. "zoh" is left out: its number of applications depends on k.

    Returns:
        c_k [..., n] in the dtype of the coefficients, float32 at least.

    Raises:
        ValueError: any other method.
    """
    if method not in ("bilinear", "backward_euler"):
        raise ValueError(f"hippo.step: unknown method {method!r}; one of bilinear, backward_euler")
    dtype = jnp.promote_types(coefficients.dtype, jnp.float32)
    c, size = coefficients.astype(dtype), coefficients.shape[-1]
    ahead = (None,) * (c.ndim - 1)
    index = jnp.arange(size, dtype=dtype)[ahead]
    r, m = jnp.sqrt(2 * index + 1), index + 1
    d = (1 / jnp.asarray(k, dtype))[..., None]
    explicit, implicit = (0.5 * d, 0.5 * d) if method == "bilinear" else (0 * d, d)
    known = jnp.cumsum(r * c, axis=-1) - r * c
    b = (1 - explicit * m) * c + r * (d * sample.astype(dtype)[..., None] - explicit * known)
    solve = 1 / (1 + implicit * m)
    decay = jnp.broadcast_to((1 - implicit * index) * solve, c.shape)
    join = lambda left, right: (right[0] * left[0], right[0] * left[1] + right[1])
    _, sums = jax.lax.associative_scan(join, (decay, r * b * solve), axis=-1)
    received = jnp.concatenate([jnp.zeros_like(sums[..., :1]), sums[..., :-1]], axis=-1)
    return (b - implicit * r * received) * solve


class _Cell(NamedTuple):
    """One coefficient's share of one step.

    Attributes:
        sums: how many running sums a cell hands to its right neighbour.
        complex: whether those are complex.
        step: (c, the sums received, the sums received one step before, input, length of the step)
            -> (new c, the sums to hand on); c [rows, n], sums [sums, rows, n], input [rows, n], length [n].
    """

    sums: int
    complex: bool
    step: Callable[[Array, Array, Array, Array, Array], tuple[Array, Array]]


def _theta_cell(n: int, theta: float, dtype: Any) -> _Cell:
    """c <- c + d (1 - theta) (A c + B u) + d theta (A c' + B u), solved for the new c' by forward substitution."""
    r, m = (jnp.asarray(x, dtype)[None] for x in (np.sqrt(2.0 * np.arange(n) + 1), np.arange(n) + 1))

    def step(c, received, before, u, d):
        d = d[None]
        push = d * r * (u - (1 - theta) * before[0] - theta * received[0])
        c = ((1 - (1 - theta) * d * m) * c + push) / (1 + theta * d * m)
        return c, received + r[None] * c[None]

    return _Cell(1, False, step)


# exp(z) as the diagonal Pade approximant of degree 8, q(z) / q(-z). Its poles p come in conjugate pairs, and a pair
# contributes the factor (z + p)(z + p*) / ((z - p)(z - p*)), at most 1 in size on the left half-plane.
_DEGREE = 8
_COEFFICIENTS = [factorial(2 * _DEGREE - j) // (factorial(j) * factorial(_DEGREE - j)) for j in range(_DEGREE + 1)]
_POLES = [p for p in np.roots([(-1) ** j * q for j, q in enumerate(_COEFFICIENTS)][::-1]) if p.imag > 0]
# n^2 / pi is about the largest frequency of LegS. Up to this value of step length times frequency the error of the
# approximant stays below 1e-11 in the 2-norm for every n (measured), and it grows as the 17th power beyond.
_REACH = 6.0


def _exponential_cell(n: int, dtype: Any) -> _Cell:
    """c <- expm(d A) c + A^-1 (expm(d A) - I) B u, one pair of poles after the other.

    With x the vector (c, u) and M the matrix of x' = (A c + B u, 0), a pair's factor at z = d M is

        x - 4 (Re p / Im p) Im y,    y = (I - (d/p) M)^-1 x

    and y follows by forward substitution like a backward Euler step of the complex length d / p.
    """
    wide = jnp.promote_types(dtype, jnp.complex64)
    r, m = (jnp.asarray(x, dtype)[None] for x in (np.sqrt(2.0 * np.arange(n) + 1), np.arange(n) + 1))

    def step(c, received, before, u, d):
        del before
        handed_on = []
        for p, below in zip(_POLES, received, strict=True):
            length = (d * jnp.asarray(1 / p, wide))[None]
            y = (c + length * r * (u - below)) / (1 + length * m)
            handed_on.append(below + r * y)
            c = c - float(4 * p.real / p.imag) * y.imag
        return c, jnp.stack(handed_on)

    return _Cell(len(_POLES), True, step)


def _sweep(cell: _Cell, inputs: Array, lengths: Array, n: int) -> Array:
    """What each cell holds after each tick, [steps + n - 1, rows, n]: cell m does step i at tick i + m.

    Args:
        inputs: [steps, rows].
        lengths: [steps].
    """
    rows, dtype = inputs.shape[1], inputs.dtype
    sums = jnp.zeros((cell.sums, rows, n), jnp.promote_types(dtype, jnp.complex64) if cell.complex else dtype)
    # step lengths of 0 keep a cell at zero until its first step arrives
    start = (jnp.zeros((rows, n), dtype), sums, sums, jnp.zeros((rows, n), dtype), jnp.zeros(n, dtype))

    def tick(carry, new):
        c, handed_on, before, u, d = carry
        u = jnp.concatenate([new[0][:, None], u[:, :-1]], axis=1)
        d = jnp.concatenate([new[1][None], d[:-1]])
        received = jnp.pad(handed_on[..., :-1], ((0, 0), (0, 0), (1, 0)))
        c, handed_on = cell.step(c, received, before, u, d)
        return (c, handed_on, received, u, d), c

    # the map is linear: with the coefficients computed anew, the backward pass keeps next to nothing of a tick
    _, states = jax.lax.scan(
        jax.checkpoint(tick, prevent_cse=False),
        start,
        (jnp.pad(inputs, ((0, n - 1), (0, 0))), jnp.pad(lengths, (0, n - 1))),
    )
    return states


def reconstruct(coefficients: Float[Array, "*batch N"], points: Any) -> Float[Array, "..."]:
    """Values of the remembered history, sum_n c_n sqrt(2n+1) P_n(2x - 1).

    Args:
        coefficients: [..., n] of LegS, as `project` gives them.
        points: any shape, in [0, 1]: 0 is the beginning of the history, 1 the present. The sum is as sensitive to
            them as a polynomial of degree n - 1 is; numpy numbers are used in float64, jax arrays in their own dtype.

    Returns:
        [..., *points.shape] in the dtype of the coefficients, float32 at least.
    """
    coefficients = jnp.asarray(coefficients)
    dtype = jnp.promote_types(coefficients.dtype, jnp.float32)
    n = coefficients.shape[-1]
    if not isinstance(points, jax.Array):
        points = np.asarray(points, np.float64)
        basis = np.polynomial.legendre.legvander(2 * points.ravel() - 1, n - 1).reshape(*points.shape, n)
    else:
        basis = _legendre(2 * points.astype(dtype) - 1, n)
    basis = jnp.asarray(basis * np.sqrt(2.0 * np.arange(n) + 1).astype(basis.dtype)[(None,) * points.ndim], dtype)
    return jnp.tensordot(coefficients.astype(dtype), basis, (-1, -1), precision="highest")


def _legendre(z: Array, n: int) -> Array:
    """P_0 .. P_{n-1} at z, [*z.shape, n]."""

    def step(pair, m):
        below, here = pair
        return (here, ((2 * m + 1) * z * here - m * below) / (m + 1)), here

    _, values = jax.lax.scan(step, (jnp.zeros_like(z), jnp.ones_like(z)), jnp.arange(n, dtype=z.dtype))
    return jnp.moveaxis(values, 0, -1)
