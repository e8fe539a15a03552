import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.evaluation import recall
from memjax.evaluation.recall import _predict, chance, make_examples, predict
from memjax.mixers import AttentionConfig
from memjax.models import LM, BlockConfig, LMConfig
from memjax.models.lm import HiddenOutput
from memjax.sharding import make_mesh
from memjax.tasks import mqar

TASK = mqar.Config(vocab_size=64, length=32, pairs=4, random_non_queries=False)


class Induction(LM):
    """Answers with the token that followed the first appearance of the current one: solves recall exactly."""

    def __init__(self, vocab_size: int):
        self.config = LMConfig(vocab_size=vocab_size)

    def hidden(self, tokens, state=None, *, segment_ids=None, key=None, taps=None, dtype=jnp.float32):
        same = tokens[:, :, None] == tokens[:, None, :]
        after = jnp.minimum(jnp.argmax(same, axis=-1) + 1, tokens.shape[1] - 1)
        answer = jnp.take_along_axis(tokens, after, axis=1)
        return HiddenOutput(jax.nn.one_hot(answer, self.config.vocab_size, dtype=dtype), (), {})

    def logits(self, hidden):
        return hidden.astype(jnp.float32)


def test_a_solver_gets_everything_right():
    assert recall(Induction(64), TASK, examples=50, batch_size=16) == {
        "task": "mqar",
        "pairs": 4,
        "length": 32,
        "accuracy": 1.0,
        "row_accuracy": 1.0,
        "chance": chance(TASK),
        "examples": 50,
        "axes": ["pairs", "length"],
    }


def test_predictions_are_the_most_likely_tokens_at_the_scored_positions(rngs):
    block = BlockConfig(mixer=AttentionConfig(heads=1), mlp=None)
    model = LM(LMConfig(vocab_size=64, width=16, blocks=(block,), repeats=1), rngs=rngs)
    rows = make_examples(TASK, 10)
    predictions = predict(model, rows, scored=7, batch_size=4)  # a bound that is not met, a last batch that is not full
    wanted = np.argmax(jax.jit(lambda tokens: model(tokens).logits)(rows["tokens"]), axis=-1)
    np.testing.assert_array_equal(predictions, np.where(rows["targets"] >= 0, wanted, -1))


def test_examples_are_the_same_every_time_and_more_of_them_cost_no_compilation():
    first, second = make_examples(TASK, 20), make_examples(TASK, 20)
    np.testing.assert_array_equal(first["tokens"], second["tokens"])
    model = Induction(64)
    recall(model, TASK, examples=20, batch_size=8)
    compiled = _predict._cache_size()
    recall(model, TASK, examples=30, batch_size=8)
    assert _predict._cache_size() == compiled


def test_rows_are_split_over_a_mesh():
    rows, model = make_examples(TASK, 16), Induction(64)
    with jax.set_mesh(make_mesh(data=2, fsdp=2)):
        split = predict(model, rows, TASK.pairs, batch_size=8)
        uneven = predict(model, rows, TASK.pairs, batch_size=6)
    np.testing.assert_array_equal(split, rows["targets"])
    np.testing.assert_array_equal(uneven, rows["targets"])


def test_chance_is_what_a_uniform_guess_scores(rng):
    rows = make_examples(TASK, 2000)
    own = getattr(mqar, "chance", None)
    low = TASK.vocab_size // 2 if own else 0  # a task that knows better guesses among its values only
    guesses = rng.integers(low, TASK.vocab_size, size=rows["tokens"].shape)
    assert mqar.score(guesses, rows, TASK)["accuracy"] == pytest.approx(chance(TASK), rel=0.2)


def test_refuses_a_vocabulary_that_is_too_small_and_no_examples():
    with pytest.raises(ValueError, match="needs a vocabulary of 64 tokens, the model has 32"):
        recall(Induction(32), TASK)
    with pytest.raises(ValueError, match="at least 1"):
        recall(Induction(64), TASK, examples=0)
