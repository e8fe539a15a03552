import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.ops import gated_delta_rule
from memjax.ops.gated_delta_rule import xla
from tests.ops.few import by_case
from tests.ops.matrix_memory import Case, check, draw

GATES = (0.0, 0.01, 1.0, 5.0, 20.0, 50.0)
CASES = [
    Case(1, batch=3, heads=4, groups=4),
    Case(63, heads=2, groups=4, values=24, gate="none"),
    Case(64, strengths=(0.0,)),
    Case(65, batch=2, heads=2, groups=2, keys=60, values=100, strengths=(5.0,)),
    Case(500, keys=100, values=60, strengths=GATES),
    Case(500, batch=2, heads=2, groups=4, strengths=(0.01, 50.0), packed=True),
    Case(1000, strengths=(0.01,), beta=2.0),
    Case(2048, keys=64, values=64, strengths=(0.0, 0.001)),
    Case(130, keys=128, values=256, strengths=(20.0,)),
    Case(130, keys=256, values=128, strengths=(1.0,)),
    Case(200, same_keys=True, strengths=(0.01,)),
    Case(1, batch=3, heads=4, groups=4, gate="channel"),
    Case(65, batch=2, heads=1, groups=2, gate="channel", strengths=GATES),
    Case(500, gate="channel", strengths=(0.01, 50.0), packed=True),
    Case(130, keys=60, values=100, gate="channel", strengths=(0.0,)),
    Case(130, heads=2, groups=2, strengths=(0.1, 1.0), dtype="bfloat16"),
    Case(130, batch=2, gate="none", packed=True),
]
FAST = (1, 5, 12, 15)  # numbers of cases that the second row of versions runs


@by_case(CASES, FAST)
def test_values_and_gradients_equal_float64(case):
    check(gated_delta_rule, case, "xla")


def test_inverse_of_unit_lower_triangular_is_exact_for_long_keys(rng):
    a = np.tril(rng.normal(size=(1, 3, 64, 64)), -1) * 0.5
    expected = np.linalg.inv(np.eye(64) + a)
    assert np.abs(expected).max() > 500, "the case is meant to have a large inverse"
    actual = xla.invert(jnp.asarray(a, jnp.float32))
    residual = np.einsum("nbij,nbjk->nbik", np.asarray(actual, np.float64), np.eye(64) + a) - np.eye(64)
    assert np.abs(residual).max() < 1e-4 * np.abs(expected).max()


def test_a_small_decay_behind_a_strong_one_is_not_lost():
    """A difference of cumulative sums near -3000 cannot tell exp(-0.001) from 1."""
    log_decay = np.full((1, 1, 64), -0.001)
    log_decay[..., 5] = -3000.0
    k = q = np.ones((1, 1, 64, 1))
    products = jax.jit(lambda q, k, log_decay, beta: xla.products(q, k, log_decay, beta, None))
    with jax.enable_x64(True):
        exact = products(*map(jnp.asarray, (q, k, log_decay)), jnp.ones((1, 1, 64)))
    f32 = lambda x: jnp.asarray(x, jnp.float32)
    for gate in (f32(log_decay), f32(log_decay)[..., None]):
        chunks = products(f32(q), f32(k), gate, jnp.ones((1, 1, 64)))
        np.testing.assert_allclose(chunks.a, exact.a, rtol=1e-6, atol=0)
        np.testing.assert_allclose(chunks.p, exact.p, rtol=1e-6, atol=0)
        np.testing.assert_allclose(chunks.k_out, exact.k_out, rtol=1e-6, atol=0)


def test_the_backward_saves_no_state_a_chunk(rng):
    """Residuals grow with T by the inputs and the inverse only: a state a chunk would add T / C * K * V floats."""
    case = Case(512, keys=64, values=64)
    inputs = {n: jnp.asarray(x, jnp.float32) for n, x in draw(gated_delta_rule, case, rng).items()}
    args = [inputs[n] for n in ("q", "k", "v", "log_decay", "beta", "initial_state")]
    run = lambda q, k, v, g, b, s: gated_delta_rule(q, k, v, g, b, initial_state=s, implementation="xla")
    _, pull = jax.vjp(run, *args)
    saved = sum(leaf.size for leaf in jax.tree.leaves(pull))
    assert saved <= sum(a.size for a in args) + 512 * 64 + 512 * 8  # inputs, inverse [T, C], small change


@pytest.mark.slow
def test_vmap_adds_a_batch_axis(rng):
    inputs = draw(gated_delta_rule, Case(70, batch=3), rng)
    args = [jnp.asarray(inputs[n], jnp.float32)[:, None] for n in ("q", "k", "v", "log_decay", "beta")]
    one = lambda *x: gated_delta_rule(*x)[0]
    mapped, whole = jax.jit(jax.vmap(one))(*args), jax.jit(one)(*(a[:, 0] for a in args))
    np.testing.assert_allclose(mapped[:, 0], whole, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_memory_of_the_gradient_is_linear_in_time():
    def temporary(time):
        shape = lambda *s: jax.ShapeDtypeStruct((1, time, 2, *s), jnp.float32)
        loss = lambda *x: gated_delta_rule(*x)[0].sum()
        args = (shape(32), shape(32), shape(32), shape(), shape())
        compiled = jax.jit(jax.grad(loss, (0, 1, 2, 3, 4))).lower(*args).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(4096) < 4.5 * temporary(1024)
