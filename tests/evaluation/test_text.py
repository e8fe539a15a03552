import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memjax import data
from memjax.evaluation import continue_text, sample, text_loss


def test_loss_is_that_of_all_tokens_of_the_split(text_run, text_file):
    _, model, config = text_run
    found = text_loss(model, config)
    loss = tokens = 0
    forward = jax.jit(lambda tokens, segment_ids: model(tokens, segment_ids=segment_ids).logits)
    for batch in data.eval_loader(config.data, batch_size=4):
        logits = forward(batch["tokens"], batch["segment_ids"])
        chances = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.maximum(batch["targets"], 0)[..., None], axis=-1)[
            ..., 0
        ]
        loss -= float(jnp.sum(chances, where=batch["targets"] >= 0))
        tokens += int(np.sum(batch["targets"] >= 0))
    assert found["tokens"] == tokens
    assert found["loss"] == pytest.approx(loss / tokens, rel=1e-5)
    assert found["bits_per_byte"] == pytest.approx(loss / math.log(2) / found["bytes"], rel=1e-5)
    assert found["bytes"] == pytest.approx(0.1 * text_file.stat().st_size, rel=0.05)  # the last tenth


def test_a_model_that_knows_nothing_needs_eight_bits_a_byte(text_run):
    _, model, config = text_run
    graphdef, params = nnx.split(model)
    blank = nnx.merge(graphdef, jax.tree.map(jnp.zeros_like, params))
    found = text_loss(blank, config)
    assert found["loss"] == pytest.approx(math.log(257), rel=1e-6)
    assert found["bits_per_byte"] == pytest.approx(math.log2(257) * found["tokens"] / found["bytes"], rel=1e-6)


def test_a_few_batches_are_the_beginning_of_the_split(text_run):
    _, model, config = text_run
    assert 0 < text_loss(model, config, batches=1)["tokens"] < text_loss(model, config)["tokens"]


def test_continues_a_prompt_from_the_start_of_a_document(text_run):
    _, model, config = text_run
    greedy = dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, temperature=0.0))
    tokens, forward = [256, *b"line"], jax.jit(lambda tokens: model(tokens).logits)
    for step in range(6):
        logits = forward(jnp.pad(jnp.asarray([tokens]), ((0, 0), (0, 6 - step))))  # what follows is not seen
        tokens.append(int(jnp.argmax(logits[0, len(tokens) - 1])))
    wanted = tokens[5:]
    text = continue_text(model, greedy, "line", steps=6)
    assert text == data.load_tokenizer(config.data).decode(wanted[: wanted.index(256)] if 256 in wanted else wanted)


def test_the_sample_begins_with_the_prompt(text_run, task_run):
    _, model, config = text_run
    assert sample(model, config).startswith("ab")
    silent = dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, sample_steps=0))
    assert sample(model, silent) == ""
    assert sample(task_run[1], task_run[2]) == ""


def test_a_run_on_tasks_has_no_text_to_continue(task_run):
    with pytest.raises(ValueError, match="trained on text"):
        continue_text(task_run[1], task_run[2], "hello")
