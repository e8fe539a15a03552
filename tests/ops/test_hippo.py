"""The matrices against formulas and integrals written out here; the projection against dense matrices in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial import Legendre, legendre
from scipy.linalg import expm

from memjax.ops import hippo
from tests.tolerances import assert_close, relative_rms

MEASURES = ("legs", "legt", "lagt", "fout")


def entry(measure, n, k):
    """A[n, k], one number at a time."""
    root = ((2 * n + 1) * (2 * k + 1)) ** 0.5
    if measure == "legs":
        return -root if n > k else -(n + 1) if n == k else 0
    if measure == "legt":
        return -root if n >= k else -root * (-1) ** (k - n)
    if measure == "lagt":
        return -1 if n > k else -0.5 if n == k else 0
    b = [1] + [2**0.5, 0] * 50
    b.insert(1, 0)
    turn = np.pi * (n // 2) * (n - k) if n // 2 == k // 2 else 0
    return turn - b[n] * b[k]


def source(measure, n):
    if measure == "fout":
        return 1 if n == 0 else 2**0.5 * (n % 2 == 0)
    return 1 if measure == "lagt" else (2 * n + 1) ** 0.5


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("n", [2, 6, 32])
def test_transitions_equal_their_closed_forms(measure, n):
    a, b = hippo.transition(measure, n)
    assert a.dtype == b.dtype == np.float64
    np.testing.assert_allclose(a, [[entry(measure, i, j) for j in range(n)] for i in range(n)], rtol=1e-14)
    np.testing.assert_allclose(b, [source(measure, i) for i in range(n)], rtol=1e-14)


NODES, WEIGHTS = legendre.leggauss(200)
NODES, WEIGHTS = (NODES + 1) / 2, WEIGHTS / 2  # of an integral over [0, 1]


def coefficients(measure, u, t, n):
    """x(t) by quadrature of its definition."""
    legs = lambda i: (2 * i + 1) ** 0.5 * Legendre.basis(i, domain=[0, 1])(NODES)
    if measure == "legs":
        return np.array([(WEIGHTS * u(t * NODES) * legs(i)).sum() for i in range(n)])
    if measure == "legt":
        return np.array([(WEIGHTS * u(t - 1 + NODES) * legs(i)).sum() for i in range(n)])
    if measure == "lagt":
        s, w = np.polynomial.laguerre.laggauss(100)  # of exp(-s); the rest of exp(-s/2) is put back
        laguerre = lambda i: np.polynomial.laguerre.Laguerre.basis(i)(2 * s)
        return np.array([2 * (w * u(t - 2 * s) * laguerre(i)).sum() for i in range(n)])
    s = 2 * NODES
    wave = lambda i: 2**0.5 * (np.sin if i % 2 else np.cos)(np.pi * (i // 2) * s) if i > 1 else (1 - i) * np.ones(200)
    return np.array([(WEIGHTS * u(t - s) * wave(i)).sum() for i in range(n)])


@pytest.mark.parametrize(
    ("measure", "n", "u", "tolerance"),
    [
        ("legs", 10, lambda t: np.sin(2 * t) + np.exp(-t), 1e-8),
        ("lagt", 10, lambda t: np.cos(0.3 * t) + 1, 1e-8),
        ("legt", 8, Legendre([1, -2, 3, 0.5, 0, 2, 1, -1]), 1e-8),  # degree 7: the window's far end is known
        # the far end is read off a truncated series, whose error at the jump falls like 1/n
        ("fout", 64, lambda t: t + np.cos(2 * np.pi * t), 0.02),
    ],
)
def test_coefficients_obey_the_equation(measure, n, u, tolerance):
    t, h = 1.7, 1e-4
    x = lambda t: coefficients(measure, u, t, n)
    slope = (8 * (x(t + h) - x(t - h)) - (x(t + 2 * h) - x(t - 2 * h))) / (12 * h)
    a, b = hippo.transition(measure, n)
    expected = (a @ x(t) + b * u(t)) / (t if measure == "legs" else 1)
    low = slice(0, n if measure != "fout" else 6)
    assert np.abs(slope - expected)[low].max() <= tolerance * np.abs(slope).max()


@pytest.mark.parametrize("measure", MEASURES)
def test_normal_plus_low_rank(measure):
    n = 32
    a, b = hippo.transition(measure, n)
    normal, p, source = hippo.normal_plus_low_rank(measure, n)
    assert p.shape == (n, 2 if measure == "legt" else 1)
    np.testing.assert_array_equal(source, b)
    np.testing.assert_allclose(normal - p @ p.T, a, atol=1e-12)
    np.testing.assert_allclose(normal @ normal.T, normal.T @ normal, atol=1e-9)

    form = hippo.diagonal_plus_low_rank(measure, n)
    both = np.concatenate([form.basis, form.basis.conj()], axis=1)
    np.testing.assert_allclose(both.conj().T @ both, np.eye(n), atol=1e-12)
    eigenvalues = np.concatenate([form.eigenvalues, form.eigenvalues.conj()])
    np.testing.assert_allclose((both * eigenvalues) @ both.conj().T, normal, atol=1e-11)
    np.testing.assert_allclose(2 * (form.basis @ form.p).real, p, atol=1e-12)
    np.testing.assert_allclose(2 * (form.basis @ form.b).real, b, atol=1e-12)
    assert (np.diff(form.eigenvalues.imag) > 0).all() and form.eigenvalues.imag[0] >= 0


def test_diagonal_inits():
    m = np.arange(32)
    legs = hippo.diagonal("legs", 64)
    assert legs.dtype == np.complex128 and legs.shape == (32,)
    np.testing.assert_array_equal(legs.real, -0.5)
    np.testing.assert_allclose(legs.imag.max(), 1303.3, atol=0.05)
    np.testing.assert_allclose(hippo.diagonal("lin", 64), -0.5 + 1j * np.pi * m)
    inv = hippo.diagonal("inv", 64)
    np.testing.assert_allclose(inv, [-0.5 + 1j * 64 / np.pi * (64 / (2 * k + 1) - 1) for k in m])
    np.testing.assert_allclose(inv.imag.max(), 1283.4, atol=0.05)
    real = hippo.diagonal("real", 5)
    assert real.dtype == np.float64
    np.testing.assert_array_equal(real, [-1, -2, -3, -4, -5])


def test_wrong_names_and_sizes_are_refused():
    for call in (
        lambda: hippo.transition("fout", 5),
        lambda: hippo.transition("legs", 0),
        lambda: hippo.diagonal("legs", 7),
        lambda: hippo.diagonal_plus_low_rank("legs", 7),
        lambda: hippo.project(jnp.zeros((2, 0)), 4),
        lambda: hippo.project(jnp.zeros(3), 0),
    ):
        with pytest.raises(ValueError, match=r"size|empty"):
            call()


METHODS = ("bilinear", "zoh", "backward_euler")


def dense(signal, n, method):
    """The recurrences with matrices: A/k at sample k, from 1."""
    a, b = hippo.transition("legs", n)
    eye, c, out = np.eye(n), np.zeros((n, *signal.shape[:-1])), []
    for k in range(1, signal.shape[-1] + 1):
        source = np.multiply.outer(b, signal[..., k - 1])
        if method == "zoh":
            e = expm(a * np.log((k + 1) / k))
            c = e @ c + np.linalg.solve(a, (e - eye) @ source)
        elif method == "bilinear":
            c = np.linalg.solve(eye - a / 2 / k, (eye + a / 2 / k) @ c + source / k)
        else:
            c = np.linalg.solve(eye - a / k, c + source / k)
        out.append(c)
    return np.moveaxis(np.array(out), (0, 1), (-2, -1))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("time", "n"), [(1, 1), (1, 8), (65, 1), (63, 16), (200, 40)])
def test_projection_equals_dense_matrices(method, time, n, rng):
    signal = rng.normal(size=(2, time))
    expected = dense(signal, n, method)
    project = jax.jit(hippo.project, static_argnums=(1, 2))
    assert_close(project(jnp.asarray(signal, jnp.float32), n, method), expected)
    with jax.enable_x64(True):
        assert_close(project(jnp.asarray(signal), n, method), expected)


@pytest.mark.parametrize("method", METHODS)
def test_gradient_of_projection_is_its_transpose(method, rng):
    time, n = 33, 12
    matrix = dense(np.eye(time), n, method)  # [T inputs, T, n]
    weights = rng.normal(size=(time, n))
    loss = lambda signal: (hippo.project(signal, n, method) * jnp.asarray(weights, signal.dtype)).sum()
    signal = jnp.asarray(rng.normal(size=time), jnp.float32)
    assert_close(jax.jit(jax.grad(loss))(signal), np.einsum("stn,tn->s", matrix, weights), gradient=True)


def test_projection_takes_any_batch_and_dtype(rng):
    signal = jnp.asarray(rng.normal(size=(2, 3, 10)), jnp.bfloat16)
    out = hippo.project(signal, 5)
    assert out.shape == (2, 3, 10, 5) and out.dtype == jnp.float32
    assert_close(out[1, 2], dense(np.asarray(signal[1, 2], np.float64), 5, "bilinear"))
    assert_close(jax.jit(jax.vmap(lambda s: hippo.project(s, 5)))(signal), np.asarray(out))


def test_a_constant_is_remembered_as_a_constant():
    # c_0 = 0 before the first sample leaves a trace of 1/k
    out = hippo.project(jnp.full(400, 3.0), 8, "zoh")
    np.testing.assert_allclose(out[-1, 0], 3 * 400 / 401, rtol=1e-5)
    np.testing.assert_allclose(hippo.reconstruct(out[-1], np.array([0.3, 0.9])), 3.0, rtol=0.02)


def test_zoh_is_the_projection_of_the_step_function(rng):
    """On [0, k+1]: nothing before 1, sample j on [j, j+1]. Integrals of Legendre polynomials in closed form."""
    time, n = 50, 6
    signal = rng.normal(size=time)
    out = hippo.project(jnp.asarray(signal, jnp.float32), n, "zoh")
    edges = np.arange(1, time + 2) / (time + 1)
    integrals = [Legendre.basis(i, domain=[0, 1]).integ()(edges) * (2 * i + 1) ** 0.5 for i in range(n)]
    assert_close(out[-1], np.array([(np.diff(values) * signal).sum() for values in integrals]))


@pytest.mark.parametrize("method", METHODS)
def test_no_matrix_appears_and_work_is_linear(method):
    """The scan's body holds no matrix product, and no array larger than a few numbers a coefficient."""
    signal = jnp.zeros(20)
    for n in (64, 128):
        program = jax.make_jaxpr(lambda s, n=n: hippo.project(s, n, method))(signal)
        (scan,) = [e for e in program.jaxpr.eqns if e.primitive.name == "scan"]
        body = scan.params["jaxpr"].jaxpr
        assert max(v.aval.size for e in body.eqns for v in e.outvars) <= 4 * n
        assert not any(e.primitive.name == "dot_general" for e in body.eqns)


@pytest.mark.parametrize(("method", "goal"), [("bilinear", 0.015), ("zoh", 0.010)])
def test_two_tones_are_remembered(method, goal):
    time, n = 1024, 64
    t = np.arange(time) / time
    signal = np.sin(2 * np.pi * 3 * t) + 0.5 * np.cos(2 * np.pi * 7 * t)
    out = hippo.project(jnp.asarray(signal, jnp.float32), n, method)
    # sample k, from 1, is the one around time k + 1/2 of a history of length T + 1
    values = hippo.reconstruct(out[-1], (np.arange(time) + 1.5) / (time + 1))
    assert relative_rms(values, signal) <= goal


def test_forward_euler_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"forward Euler.*eigenvalues.*overflow"):
        hippo.project(jnp.zeros(4), 8, "forward_euler")
    with pytest.raises(ValueError, match="one of bilinear"):
        hippo.project(jnp.zeros(4), 8, "tustin")


def test_reconstruction_equals_the_series(rng):
    n, points = 20, np.linspace(0, 1, 7)
    c = rng.normal(size=(2, 3, n))
    expected = sum(c[..., i, None] * (2 * i + 1) ** 0.5 * Legendre.basis(i, domain=[0, 1])(points) for i in range(n))
    c = jnp.asarray(c, jnp.float32)
    assert_close(hippo.reconstruct(c, points), expected)
    assert_close(hippo.reconstruct(c, jnp.asarray(points)), expected)
    assert hippo.reconstruct(c, 0.5).shape == (2, 3)
    assert hippo.reconstruct(c, points.reshape(7, 1)).shape == (2, 3, 7, 1)
    slope = jax.vmap(jax.grad(lambda x: hippo.reconstruct(c[0, 0], x)))(jnp.asarray(points[1:-1]))
    exact = sum(
        float(c[0, 0, i]) * (2 * i + 1) ** 0.5 * Legendre.basis(i, domain=[0, 1]).deriv()(points[1:-1])
        for i in range(1, n)
    )
    assert_close(slope, exact, gradient=True)


@pytest.mark.parametrize("method", ["bilinear", "backward_euler"])
def test_single_steps_equal_the_projection(method, rng):
    signal = jnp.asarray(rng.normal(size=(2, 50)), jnp.float32)
    advance = lambda c, new: (hippo.step(c, new[0], new[1], method),) * 2
    _, states = jax.lax.scan(advance, jnp.zeros((2, 21)), (signal.T, jnp.arange(1, 51)[:, None]))
    exact = dense(np.asarray(signal, np.float64), 21, method)
    assert_close(jnp.moveaxis(states, 0, 1), exact)
    with pytest.raises(ValueError, match="forward_euler"):
        hippo.step(jnp.zeros((2, 4)), jnp.zeros(2), jnp.ones(2), "forward_euler")
