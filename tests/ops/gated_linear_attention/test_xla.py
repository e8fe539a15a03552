import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.ops import gated_linear_attention
from tests.ops.few import by_case
from tests.ops.matrix_memory import Case, check, draw

GATES = (0.0, 0.01, 1.0, 5.0, 20.0, 50.0)
CASES = [
    Case(1, batch=3, heads=2, groups=4),
    Case(63, heads=2, groups=4, values=24, gate="none"),
    Case(130, batch=2, gate="none", packed=True),
    Case(64, strengths=(0.0,)),
    Case(65, batch=2, heads=2, groups=2, keys=60, values=100, strengths=(5.0,)),
    Case(500, heads=1, groups=8, keys=100, values=60, strengths=GATES),
    Case(500, batch=2, heads=2, groups=6, strengths=(0.01, 50.0), packed=True),
    Case(1000, strengths=(0.01,), batch=4),
    Case(2048, keys=64, values=64, strengths=(0.0, 0.001)),
    Case(130, keys=128, values=256, strengths=(20.0,)),
    Case(65, batch=2, heads=1, groups=2, gate="channel", strengths=GATES),
    Case(500, gate="channel", strengths=(0.01, 50.0), packed=True),
    Case(130, keys=60, values=100, gate="channel", strengths=(0.0,)),
    Case(130, heads=2, groups=2, strengths=(0.1, 1.0), dtype="bfloat16"),
]
FAST = (1, 6, 10, 13)  # numbers of cases that the second row of versions runs


@by_case(CASES, FAST)
def test_values_and_gradients_equal_float64(case):
    check(gated_linear_attention, case, "xla")


def test_the_backward_saves_the_inputs_alone(rng):
    inputs = {n: jnp.asarray(x, jnp.float32) for n, x in draw(gated_linear_attention, Case(512), rng).items()}
    run = lambda q, k, v, g, s: gated_linear_attention(q, k, v, g, initial_state=s, implementation="xla")
    args = [inputs[n] for n in ("q", "k", "v", "log_decay", "initial_state")]
    _, pull = jax.vjp(run, *args)
    saved = sum(leaf.size for leaf in jax.tree.leaves(pull))
    assert saved <= 1.1 * sum(a.size for a in args)


@pytest.mark.slow
def test_memory_of_the_gradient_is_linear_in_time():
    def temporary(time):
        shape = lambda *s: jax.ShapeDtypeStruct((1, time, 2, *s), jnp.float32)
        loss = lambda *x: gated_linear_attention(*x)[0].sum()
        compiled = jax.jit(jax.grad(loss, (0, 1, 2, 3))).lower(shape(32), shape(32), shape(32), shape()).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(4096) < 4.5 * temporary(1024)


def test_without_a_gate_it_is_masked_attention_without_softmax(rng):
    q, k, v = rng.normal(size=(3, 2, 100, 2, 8)).astype(np.float32)
    scores = np.einsum("bihk,bjhk->bhij", q.astype(np.float64), k) * 8**-0.5
    expected = np.einsum("bhij,bjhv->bihv", np.tril(scores), v)
    o, state = gated_linear_attention(jnp.asarray(q), jnp.asarray(k), jnp.asarray(v))
    np.testing.assert_allclose(o, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(state, np.einsum("bjhk,bjhv->bhkv", k, v), rtol=1e-4, atol=1e-4)
