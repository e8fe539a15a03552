"""The sequence model: embedding, pooling, state, and the same blocks as the language model's."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memjax.mixers import AttentionConfig
from memjax.models import LM, BlockConfig, LMConfig, SequenceConfig, SequenceModel, build
from memjax.models.sequence import pooled
from tests.tolerances import assert_close

CONFIG = SequenceConfig(
    features=2, outputs=3, width=8, repeats=2, blocks=(BlockConfig(AttentionConfig(heads=2, context=8), None),)
)


@pytest.fixture(scope="module")
def model():
    return SequenceModel(CONFIG, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def inputs():
    return jax.random.normal(jax.random.key(1), (2, 7, 2))


def test_an_output_for_each_token_and_a_state_between_calls(model, inputs):
    call = jax.jit(lambda x, state=None: model(x, state))
    whole, first = call(inputs), call(inputs[:, :3])
    rest = call(inputs[:, 3:], first.state)
    assert whole.outputs.shape == (2, 7, 3) and whole.outputs.dtype == jnp.float32
    assert_close((jnp.concatenate([first.outputs, rest.outputs], 1), rest.state), (whole.outputs, whole.state))


def test_it_is_the_backbone_of_the_language_model(model, inputs):
    lm = LM(LMConfig(vocab_size=5, width=8, repeats=2, blocks=CONFIG.blocks), rngs=nnx.Rngs(1))
    lm.blocks, lm.final_norm = model.blocks, model.final_norm
    stream = model.embed(inputs)
    assert_close(lm.stream(stream).hidden, model.hidden(inputs).hidden)
    assert lm.state_bytes() == model.state_bytes()
    assert model.flops_per_token(7) == lm.flops_per_token(7) + 2 * 8 * (2 + 3 - 5)


def test_the_embedding_is_affine(model):
    zero = model.embed(jnp.zeros((1, 1, 2)))
    assert jnp.abs(zero).min() > 0
    x, y = jax.random.normal(jax.random.key(2), (2, 1, 1, 2))
    assert_close(model.embed(x + y), model.embed(x) + model.embed(y) - zero)


@pytest.mark.parametrize("pool", ["mean", "last"])
def test_pooling_gives_one_output_a_row(model, inputs, pool):
    one = SequenceModel(dataclasses.replace(CONFIG, pool=pool), rngs=nnx.Rngs(0))
    out, all_outputs = one(inputs).outputs, model(inputs).outputs
    expected = all_outputs.mean(1, keepdims=True) if pool == "mean" else all_outputs[:, -1:]
    assert_close(out, expected)


def test_the_mean_of_many_bfloat16_states_is_exact_enough():
    hidden = jnp.full((1, 1000, 1), 1.01, jnp.bfloat16)
    np.testing.assert_array_equal(pooled(hidden, "mean"), hidden[:, :1])


def test_sizes_are_checked_and_build_knows_both_models():
    with pytest.raises(ValueError, match="features"):
        SequenceModel(dataclasses.replace(CONFIG, features=0), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="SequenceModel: width"):
        SequenceModel(dataclasses.replace(CONFIG, width=0), rngs=nnx.Rngs(0))
    assert isinstance(build(CONFIG, rngs=nnx.Rngs(0)), SequenceModel)
    assert isinstance(build(LMConfig(width=8), rngs=nnx.Rngs(0)), LM)
