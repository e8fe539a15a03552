"""Everything against the dense bilinear recurrence over all N states, in float64 numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.ops import DPLR, dplr_kernel, dplr_ssm, hippo
from tests.tolerances import assert_close, relative_rms

B, D, N = 2, 3, 8
M = N // 2


def systems(rng, double=False):
    """D systems around HiPPO-LegS, no two alike, as (DPLR, dense Abar and Bbar and C of all N states)."""
    form = hippo.diagonal_plus_low_rank("legs", N)
    shake = lambda a: a[None] * rng.uniform(0.7, 1.3, (D, M))
    eigenvalues, p, b = shake(form.eigenvalues), shake(form.p[:, 0]), shake(form.b)
    c = rng.normal(size=(D, M)) + 1j * rng.normal(size=(D, M))
    dt = np.asarray([0.003, 0.05, 0.4])
    dense = []
    for d in range(D):
        both = lambda v, d=d: np.concatenate([v[d], v[d].conj()])
        a = np.diag(both(eigenvalues)) - np.outer(both(p), both(p).conj())
        left = np.linalg.inv(np.eye(N) - dt[d] / 2 * a)
        dense.append((left @ (np.eye(N) + dt[d] / 2 * a), left @ both(b) * dt[d], both(c)))
    wide, real = (jnp.complex128, jnp.float64) if double else (jnp.complex64, jnp.float32)
    return DPLR(*(jnp.asarray(a, wide) for a in (eigenvalues, p, b, c)), jnp.asarray(dt, real)), dense


def by_steps(dense, x, start, ids=None):
    y, last = np.zeros(x.shape), np.zeros((B, D, N), complex)
    for d, (a, b, c) in enumerate(dense):
        for row in range(B):
            s, document = np.concatenate([start[row, d], start[row, d].conj()]), 0
            for t in range(x.shape[1]):
                if ids is not None and not ids[row, t]:
                    continue
                if ids is not None and document and ids[row, t] != document:
                    s = 0 * s
                document = 1 if ids is None else ids[row, t]
                s = a @ s + b * x[row, t, d]
                y[row, t, d] = (c @ s).real
            last[row, d] = s
    np.testing.assert_allclose(last[..., M:], last[..., :M].conj(), atol=1e-8)
    return y, last[..., :M]


@pytest.mark.parametrize("length", [1, 7, 64])
def test_the_kernel_is_that_of_the_dense_recurrence(length, rng):
    with jax.enable_x64(True):
        system, dense = systems(rng, double=True)
        kernel = np.asarray(jax.jit(dplr_kernel, static_argnums=1)(system, length))
    expected = [[(c @ np.linalg.matrix_power(a, lag) @ b).real for a, b, c in dense] for lag in range(length)]
    assert kernel.dtype == np.float64 and relative_rms(kernel, np.asarray(expected)) < 1e-10


def test_the_float32_kernel_of_64_states_has_no_bad_frequency(rng):
    """Even lengths have the frequency w = -1, the pole of the usual form."""
    form = hippo.diagonal_plus_low_rank("legs", 64)
    c = rng.normal(size=32) + 1j * rng.normal(size=32)
    numbers = (form.eigenvalues, form.p[:, 0], form.b, c)
    with jax.enable_x64(True):
        row = lambda wide, real: DPLR(*(jnp.asarray(a[None], wide) for a in numbers), jnp.asarray([0.01], real))
        kernel = jax.jit(dplr_kernel, static_argnums=1)
        double = np.asarray(kernel(row(jnp.complex128, jnp.float64), 256))
        single = np.asarray(kernel(row(jnp.complex64, jnp.float32), 256))
    assert single.dtype == np.float32 and relative_rms(single, double) < 1e-4


@pytest.mark.parametrize("mode", ["convolution", "chunked", "recurrence"])
def test_every_form_equals_the_dense_steps(mode, rng):
    system, dense = systems(rng)
    x = rng.normal(size=(B, 75, D)).astype(np.float32)
    start = (rng.normal(size=(B, D, M)) + 1j * rng.normal(size=(B, D, M))).astype(np.complex64)
    y, last = jax.jit(lambda s, x, start: dplr_ssm(x, s, initial_state=start, mode=mode))(system, x, start)
    # the FFT's rounding is relative to the largest output of a row
    assert_close((y, last), by_steps(dense, x, start), factor=2 if mode == "convolution" else 1)


@pytest.mark.parametrize("mode", ["chunked", "recurrence"])
def test_documents_reset_and_padding_waits(mode, rng):
    system, dense = systems(rng)
    x = rng.normal(size=(B, 75, D)).astype(np.float32)
    start = (rng.normal(size=(B, D, M)) + 1j * rng.normal(size=(B, D, M))).astype(np.complex64)
    ids = np.zeros((B, 75), np.int32)
    ids[0, 3:40], ids[0, 40:41], ids[0, 44:70], ids[1, :75] = 1, 2, 3, 5
    run = jax.jit(lambda s, x, start, i: dplr_ssm(x, s, initial_state=start, segment_ids=i, mode=mode))
    y, last = run(system, x, start, ids)
    assert_close((y * (ids > 0)[..., None], last), by_steps(dense, x, start, ids))


def test_gradients_of_all_forms_agree(rng):
    with jax.enable_x64(True):
        system, _ = systems(rng, double=True)
        x, weight = rng.normal(size=(2, B, 3, D))
        start = rng.normal(size=(B, D, M)) + 1j * rng.normal(size=(B, D, M))

        def loss(mode, system, x, start):
            y, last = dplr_ssm(x, system, initial_state=start, mode=mode)
            return (y * weight).sum() + (last.real * last.imag).sum()

        grad = lambda mode: jax.jit(jax.grad(lambda *a: loss(mode, *a), (0, 1, 2)))(
            system, jnp.asarray(x), jnp.asarray(start)
        )
        reference = grad("recurrence")
        for mode in ("convolution", "chunked"):
            assert_close(grad(mode), reference, gradient=True)
