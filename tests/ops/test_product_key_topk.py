import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import config as jaxtyping_config

from memjax.ops import product_key_topk
from memjax.ops.product_key_topk import _candidates
from tests.tolerances import assert_close

# lead, H, N, C, k
CASES = [
    ((2, 3), 2, 16, 5, 8),
    ((7,), 3, 8, 4, 32),  # more than one list holds
    ((), 1, 40, 3, 32),
    ((4,), 1, 5, 2, 25),  # all of them
    ((3,), 2, 6, 3, 1),
    ((2,), 1, 1, 2, 1),
]
run = jax.jit(product_key_topk, static_argnums=2)


def all_scores(query, keys):
    """[..., H, N * N] in float64, rows in their order."""
    halves = np.einsum("...hsc,hsnc->...hsn", np.asarray(query, np.float64), np.asarray(keys, np.float64))
    sums = halves[..., 0, :, None] + halves[..., 1, None, :]
    return sums.reshape(*sums.shape[:-2], -1)


def brute_force(query, keys, k):
    """The k best of all, of equal ones the lower row first."""
    scores = all_scores(query, keys)
    rows = np.argsort(-scores, axis=-1, kind="stable")[..., :k]
    return np.take_along_axis(scores, rows, axis=-1), rows


def draw(rng, lead, heads, count, width):
    return rng.normal(size=(*lead, heads, 2, width)), rng.normal(size=(heads, 2, count, width))


def test_few_pairs_can_win():
    counts = {(16, 99): 50, (32, 1024): 119, (80, 99): 368, (128, 128): 645, (25, 5): 25}
    assert {case: len(_candidates(*case)[0]) for case in counts} == counts


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_brute_force_over_all_rows(case, rng):
    *sizes, k = case
    query, keys = draw(rng, *sizes)
    scores, rows = run(jnp.asarray(query, jnp.float32), jnp.asarray(keys, jnp.float32), k)
    assert (scores.dtype, rows.dtype) == (jnp.float32, jnp.int32)
    expected = brute_force(query, keys, k)
    assert_close(np.asarray(scores), expected[0])
    np.testing.assert_array_equal(rows, expected[1])


@pytest.mark.parametrize("levels", [1, 2, 5])
@pytest.mark.parametrize(("count", "k"), [(9, 12), (16, 32), (4, 16)])
def test_equal_scores_come_by_ascending_row(count, k, levels, rng):
    """Half scores of few different values, which float32 holds exactly, so that most sums tie; 1: all of them."""
    query = np.ones((60, 1, 2, 1))
    keys = rng.integers(-levels // 2, levels // 2 + 1, size=(40, 2, count, 1)) * (levels > 1)
    query, keys = np.tile(query, (1, 40, 1, 1)) * rng.choice([-1, 1], size=(60, 40, 2, 1)), keys.astype(float)
    scores, rows = run(jnp.asarray(query, jnp.float32), jnp.asarray(keys, jnp.float32), k)
    expected = brute_force(query, keys, k)
    np.testing.assert_array_equal(scores, expected[0])
    np.testing.assert_array_equal(rows, expected[1])


def test_minus_zero_ties_with_zero():
    query = jnp.zeros((1, 2, 1))
    keys = jnp.asarray([-1.0, 1, -2, 3, 1])[None, None, :, None] * jnp.ones((1, 2, 1, 1))
    scores, rows = run(query, keys, 7)
    np.testing.assert_array_equal(rows, np.arange(7)[None])
    assert not np.signbit(scores).any()


def test_gradients_equal_those_of_the_dense_form(rng):
    query, keys = draw(rng, (5,), 2, 6, 3)
    weight = rng.normal(size=(5, 2, 10))

    def dense(query, keys):
        halves = jnp.einsum("...hsc,hsnc->...hsn", query, keys)
        sums = (halves[..., 0, :, None] + halves[..., 1, None, :]).reshape(5, 2, 36)
        return (jax.lax.top_k(sums, 10)[0] * weight).sum()

    ours = lambda query, keys: (product_key_topk(query, keys, 10)[0] * weight).sum()
    with jax.enable_x64(True):
        arguments = jnp.asarray(query), jnp.asarray(keys)
        actual, expected = (jax.jit(jax.grad(f, (0, 1)))(*arguments) for f in (ours, dense))
    assert_close(actual, expected, gradient=True)


def test_only_chosen_sub_keys_get_a_gradient(rng):
    query, keys = (jnp.asarray(x, jnp.float32) for x in draw(rng, (), 1, 16, 3))
    _, rows = run(query, keys, 4)
    gradient = jax.jit(jax.grad(lambda keys: product_key_topk(query, keys, 4)[0].sum()))(keys)
    for half, chosen in enumerate((rows // 16, rows % 16)):
        touched = np.flatnonzero(np.abs(gradient[0, half]).sum(-1))
        assert set(touched) == set(np.asarray(chosen).reshape(-1).tolist())


def test_bfloat16_products_are_summed_in_float32(rng):
    query, keys = (jnp.asarray(x, jnp.bfloat16) for x in draw(rng, (6,), 2, 12, 64))
    scores, rows = run(query, keys, 9)
    assert scores.dtype == jnp.float32
    expected = brute_force(query.astype(jnp.float32), keys.astype(jnp.float32), 9)
    assert_close(np.asarray(scores), expected[0])
    np.testing.assert_array_equal(rows, expected[1])
    gradients = jax.jit(jax.grad(lambda *x: product_key_topk(*x, 9)[0].sum(), (0, 1)))(query, keys)
    assert [g.dtype for g in gradients] == [jnp.bfloat16] * 2
    assert all(np.isfinite(np.asarray(g, np.float32)).all() for g in gradients)


def test_vmap_agrees_and_a_second_run_is_the_same(rng):
    query, keys = (jnp.asarray(x, jnp.float32) for x in draw(rng, (2, 3), 2, 16, 5))
    whole, again = run(query, keys, 8), run(query, keys, 8)
    mapped = jax.jit(jax.vmap(lambda q: product_key_topk(q, keys, 8)))(query)
    for a, b, c in zip(whole, again, mapped, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, rtol=1e-6)


def test_no_list_is_sorted_whole():
    """On a CPU `top_k` stays one call; as a sort of all sub-keys it would take six times as long."""
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((6, 2, 2, 4), (2, 2, 64, 4))]
    program = run.lower(*shapes, 8).compile().as_text()
    assert program.count('custom_call_target="TopK"') == 3
    assert not [line for line in program.splitlines() if " sort(" in line and "f32" in line]


def test_what_cannot_be_is_refused():
    query, keys = jnp.zeros((3, 2, 2, 4)), jnp.zeros((2, 2, 5, 4))
    for k in (0, 26):
        with pytest.raises(ValueError, match=rf"k is {k}, expected 1 \.\. N \* N = 25"):
            product_key_topk(query, keys, k)
    huge = jax.ShapeDtypeStruct((2, 2, 46341, 4), jnp.float32)
    with pytest.raises(ValueError, match="keys has N = 46341 sub-keys"):
        jax.eval_shape(lambda keys: product_key_topk(query, keys, 3), huge)


def test_shapes_that_do_not_fit_are_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)  # outside of tests nothing checks the annotations
    keys = jnp.zeros((2, 2, 5, 4))
    for shape in ((3, 1, 2, 4), (3, 2, 2, 3), (2, 4)):
        with pytest.raises(ValueError, match="query has shape"):
            product_key_topk(jnp.zeros(shape), keys, 3)
    for shape in ((2, 5, 4), (2, 3, 5, 4), (2, 2, 0, 4)):
        with pytest.raises(ValueError, match="keys has shape"):
            product_key_topk(jnp.zeros((3, 2, 2, 4)), jnp.zeros(shape), 3)
