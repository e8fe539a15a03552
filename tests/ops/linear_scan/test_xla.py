import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.ops import linear_scan
from memjax.ops.linear_scan import tiling, xla
from tests.ops.few import by_case
from tests.ops.linear_scan.cases import CASES, Case, check, draw
from tests.tolerances import assert_close, relative_rms

FORMS = ("blocked", "associative")
FAST = (3, 6, 11, 14)  # numbers of cases that the second row of versions runs


@by_case(CASES, FAST)
def test_values_and_gradients_equal_float64(case, monkeypatch):
    for form in FORMS:  # of one reference
        monkeypatch.setattr(tiling, "cpu", lambda rows, form=form: tiling.Tiling(form))
        check(case)


def test_the_choice_on_a_cpu_is_by_shape():
    assert tiling.cpu(4 * 256).form == "blocked"
    assert tiling.cpu(8).form == "associative"


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_a_split_sequence_is_the_whole(form, reverse, rng, monkeypatch):
    monkeypatch.setattr(tiling, "cpu", lambda rows: tiling.Tiling(form))
    inputs = {n: x.astype(np.float32) for n, x in draw(Case(150), rng).items()}
    decay, x, state = inputs["decay"], inputs["x"], inputs["initial_state"]
    scan = jax.jit(lambda decay, x, state: linear_scan(decay, x, initial_state=state, reverse=reverse))
    whole, last = scan(decay, x, state)
    parts = [slice(0, 37), slice(37, 38), slice(38, 150)]
    pieces = []
    for part in reversed(parts) if reverse else parts:
        h, state = scan(decay[:, part], x[:, part], state)
        pieces.append(np.asarray(h))
    assert_close(np.concatenate(pieces[::-1] if reverse else pieces, axis=1), np.asarray(whole))
    assert_close(np.asarray(state), np.asarray(last))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["normal", "equal"])
def test_65536_tokens_keep_their_digits(form, kind, rng):
    """Equal numbers are the hard ones: summed one by one, every rounding goes the same way."""
    decays = np.asarray([0.9, 0.99, 0.999, 1.0, 0.999999], np.float32)
    limits = [2e-5, 2e-5, 2e-5, 2e-5, 3e-4]
    x = rng.normal(size=(1, 65536, 5)) if kind == "normal" else np.full((1, 65536, 5), 0.1)
    x = x.astype(np.float32)
    expected, state = np.zeros(x.shape), np.zeros((1, 5))
    for t in range(x.shape[1]):
        expected[:, t] = state = decays.astype(np.float64) * state + x[:, t]
    choice = tiling.Tiling(form)
    run = jax.jit(lambda d, x, s: xla.forward(d, x, s, None, reverse=False, tiling=choice)[0])
    actual = run(jnp.asarray(decays)[None, None], jnp.asarray(x), jnp.zeros((1, 5)))
    errors = [relative_rms(actual[..., i], expected[..., i]) for i in range(5)]
    assert all(error <= limit for error, limit in zip(errors, limits, strict=True)), errors


@pytest.mark.parametrize("constant", [False, True])
def test_the_backward_keeps_decay_and_h_only(constant, rng):
    args = [jnp.asarray(x, jnp.float32) for x in draw(Case(256, width=64, constant=constant), rng).values()]
    _, pull = jax.vjp(lambda d, x, s: linear_scan(d, x, initial_state=s), *args)
    saved = sum(leaf.size for leaf in jax.tree.leaves(pull))
    assert saved <= args[0].size + args[1].size + args[2].size + 8


@pytest.mark.parametrize("constant", [False, True])
def test_the_gradient_needs_little_memory(constant):
    full = jax.ShapeDtypeStruct((4, 512, 256), jnp.float32)
    decay = jax.ShapeDtypeStruct((256,), jnp.float32) if constant else full
    loss = lambda decay, x, w: (linear_scan(decay, x)[0] * w).sum()
    plan = jax.jit(jax.grad(loss, (0, 1))).lower(decay, full, full).compile().memory_analysis()
    assert plan.temp_size_in_bytes <= 3 * 4 * full.size


@pytest.mark.parametrize("form", FORMS)
def test_vmap_adds_a_batch_axis(form, rng, monkeypatch):
    monkeypatch.setattr(tiling, "cpu", lambda rows: tiling.Tiling(form))
    inputs = draw(Case(70, batch=3), rng)
    decay, x = (inputs[n].astype(np.float32)[:, None] for n in ("decay", "x"))
    gradient = jax.grad(lambda decay, x: (linear_scan(decay, x)[0] ** 2).sum(), (0, 1))
    mapped = jax.jit(jax.vmap(gradient))(decay, x)
    whole = jax.jit(gradient)(decay[:, 0], x[:, 0])
    assert_close([np.asarray(g[:, 0]) for g in mapped], [np.asarray(g) for g in whole])
