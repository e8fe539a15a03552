import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memjax.models import LM, generate
from memjax.models.generate import choose
from tests.models.test_lm import HYBRID


@pytest.fixture(scope="module")
def lm():
    return LM(HYBRID, rngs=nnx.Rngs(0))


PROMPT = jnp.asarray([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]], jnp.int32)


def test_greedy_equals_the_whole_sequence_run_again_for_every_token(lm):
    sequence = PROMPT
    forward = jax.jit(lambda tokens: lm(tokens).logits)
    for _ in range(4):
        padded = jnp.pad(sequence, ((0, 0), (0, 9 - sequence.shape[1])))  # causal: what stands behind does not matter
        best = jnp.argmax(forward(padded)[:, sequence.shape[1] - 1], axis=-1)
        sequence = jnp.concatenate([sequence, best[:, None].astype(jnp.int32)], axis=1)
    np.testing.assert_array_equal(generate(lm, PROMPT, 4), sequence[:, 5:])


@pytest.mark.slow
def test_draws_are_repeatable_and_differ_between_keys(lm):
    draw = lambda seed: np.asarray(generate(lm, PROMPT, 12, temperature=1.0, key=jax.random.key(seed)))
    np.testing.assert_array_equal(draw(0), draw(0))
    assert (draw(0) != draw(1)).any()


@pytest.mark.slow
def test_top_k_of_one_is_greedy(lm):
    drawn = generate(lm, PROMPT, 6, temperature=2.0, top_k=1, key=jax.random.key(0))
    np.testing.assert_array_equal(drawn, generate(lm, PROMPT, 6))


@pytest.mark.parametrize(
    ("top_k", "top_p", "allowed"), [(2, None, {0, 1}), (None, 0.6, {0, 1}), (None, 0.4, {0}), (3, 0.99, {0, 1, 2})]
)
def test_filters_leave_the_right_tokens(top_k, top_p, allowed):
    logits = jnp.log(jnp.asarray([[0.5, 0.3, 0.15, 0.05]])).repeat(400, axis=0)
    drawn = choose(logits, jax.random.key(0), temperature=1.0, greedy=False, top_k=top_k, top_p=top_p)
    assert set(np.unique(drawn)) == allowed


def test_temperature_sharpens(lm):
    logits = jnp.asarray([[1.0, 0.0]]).repeat(2000, axis=0)
    share = lambda t: float(
        (choose(logits, jax.random.key(0), temperature=t, greedy=False, top_k=None, top_p=None) == 0).mean()
    )
    assert share(0.2) > 0.97 > 0.8 > share(1.0) > 0.66


def test_bad_arguments_name_themselves(lm):
    for arguments, word in (
        ({"steps": -1}, "steps"),
        ({"steps": 1, "temperature": 1.0}, "key"),
        ({"steps": 1, "top_k": 0}, "top_k"),
        ({"steps": 1, "top_p": 0.0}, "top_p"),
    ):
        with pytest.raises(ValueError, match=word):
            generate(lm, PROMPT, **arguments)
    with pytest.raises(ValueError, match="prompt"):
        generate(lm, PROMPT[:, :0], 1)
    assert generate(lm, PROMPT, 0).shape == (2, 0)
