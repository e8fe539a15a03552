"""The chunked loss against a float64 softmax, and what it must not hold in memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from memjax.training.loss import gather_positions, token_losses, token_sums

B, T, D, V = 2, 13, 4, 7


@pytest.fixture
def example():
    rng = np.random.default_rng(0)
    hidden, head = rng.normal(size=(B, T, D)).astype(np.float32), rng.normal(size=(D, V)).astype(np.float32)
    targets = rng.integers(-1, V, size=(B, T)).astype(np.int32)
    return hidden, head, targets


def reference(hidden, head, targets):
    """Loss of each token, 0 where it is not scored, hits and number of scored tokens; float64."""
    logits = hidden.astype(np.float64) @ head.astype(np.float64)
    losses = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, np.maximum(targets, 0)[..., None], -1)[..., 0]
    scored = targets >= 0
    return np.where(scored, losses, 0.0), ((logits.argmax(-1) == targets) & scored).sum(), scored.sum()


@pytest.mark.parametrize("chunk", [None, 1, 4, 13, 64])
def test_sums_are_those_of_a_float64_softmax(example, chunk):
    hidden, head, targets = example
    sums = token_sums(lambda h: h @ head, jnp.asarray(hidden), jnp.asarray(targets), chunk)
    loss, correct, scored = reference(hidden, head, targets)
    np.testing.assert_allclose(sums.loss, loss.sum(), rtol=1e-5)
    assert (int(sums.correct), int(sums.scored)) == (correct, scored)


@pytest.mark.parametrize("chunk", [None, 1, 4, 13, 64])
def test_the_loss_of_each_token_stands_beside_the_same_sums(example, chunk):
    hidden, head, targets = example
    arguments = (lambda h: h @ head, jnp.asarray(hidden), jnp.asarray(targets), chunk)
    sums, losses = token_losses(*arguments)
    np.testing.assert_allclose(losses, reference(hidden, head, targets)[0], rtol=1e-5, atol=1e-6)
    assert sums == token_sums(*arguments)


def test_gradients_do_not_depend_on_the_chunk(example):
    hidden, head, targets = example

    def gradients(chunk):
        def loss(hidden, head):
            return token_sums(lambda h: h @ head, hidden, jnp.asarray(targets), chunk).loss

        return jax.grad(loss, argnums=(0, 1))(jnp.asarray(hidden), jnp.asarray(head))

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), gradients(None), gradients(5))


def test_positions_that_are_not_scored_have_no_gradient(example):
    hidden, head, targets = example
    gradient = jax.grad(lambda h: token_sums(lambda x: x @ head, h, jnp.asarray(targets), 4).loss)(jnp.asarray(hidden))
    assert np.all(np.asarray(gradient)[targets < 0] == 0)
    assert np.all(np.abs(np.asarray(gradient)[targets >= 0]).sum(-1) > 0)


def test_chunks_never_hold_the_logits_of_all_positions():
    vocab, length, chunk = 50, 64, 8
    head, targets = jnp.ones((D, vocab)), jnp.ones((B, length), jnp.int32)

    def largest(chunk):
        def loss(hidden):
            return token_sums(lambda x: x @ head, hidden, targets, chunk).loss

        return max(size for size in _sizes(jax.make_jaxpr(jax.grad(loss))(jnp.ones((B, length, D))).jaxpr))

    assert largest(chunk) < B * length * vocab <= largest(None)


def _sizes(jaxpr):
    for equation in jaxpr.eqns:
        yield from (out.aval.size for out in equation.outvars)
        for inner in jaxprs_in_params(equation.params):
            yield from _sizes(inner)


def test_gather_positions(example):
    hidden, _, targets = example
    positions = jnp.array([[3, 0], [12, 5]])
    np.testing.assert_array_equal(gather_positions(jnp.asarray(hidden), positions)[1, 0], hidden[1, 12])
    np.testing.assert_array_equal(gather_positions(jnp.asarray(targets), positions)[0], targets[0, [3, 0]])
