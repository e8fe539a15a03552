"""Models of real-valued rows: squared error on a task, accuracy on held-out pictures."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from memjax import data, tasks
from memjax.config import TrainConfig
from memjax.data import DigitData
from memjax.evaluation.recall import make_examples
from memjax.evaluation.spread import split_rows, whole
from memjax.evaluation.text import evaluation_batch
from memjax.models import SequenceModel
from memjax.tasks import ContinuousConfig
from memjax.training.loss import token_sums

DIGITS = "digits"  # the name, among tasks, of a run's own held-out pictures


def regression(
    model: SequenceModel,
    config: ContinuousConfig,
    *,
    examples: int = 1000,
    batch_size: int = 64,
    dtype: str = "float32",
) -> dict[str, Any]:
    """One row of a report: "task", the axes of the setting, what the task's `score` says ("mse", ...), "examples", and
    the task's "chance" level if it has one.

    Args:
        model: the model.
        config: which real-valued task, at which setting.
        examples: rows to draw, always the same ones.
        batch_size: rows in one call of the model.
        dtype: dtype of the model's matrix products.
    """
    name, module = tasks.of(config)
    rows = make_examples(config, examples)
    pieces = []
    for start in range(0, examples, batch_size):
        inputs = rows["inputs"][start : start + batch_size]
        filled = np.concatenate([inputs, np.repeat(inputs[:1], batch_size - len(inputs), axis=0)])
        pieces.append(np.asarray(_outputs(model, filled, dtype=dtype))[: len(inputs)])
    scores = module.score(np.concatenate(pieces), rows, config)
    guess = {"chance": module.chance(config)} if hasattr(module, "chance") else {}
    return {"task": name, **module.describe(config), **scores, **guess, "examples": examples}


def classification(model: SequenceModel, config: TrainConfig) -> dict[str, Any]:
    """One row of a report: accuracy and loss (nats) over all held-out pictures of a run on `DigitData`."""
    assert isinstance(config.data, DigitData)
    batches = data.eval_loader(config.data, batch_size=evaluation_batch(config))
    sums = [_sums(model, batch["inputs"], batch["targets"], dtype=config.compute_dtype) for batch in batches]
    count = sum(int(part.scored) for part in sums)
    return {
        "task": DIGITS,
        "length": config.data.size**2,
        "accuracy": sum(int(part.correct) for part in sums) / count,
        "loss": math.fsum(float(part.loss) for part in sums) / count,
        "chance": 1 / config.data.outputs,
        "examples": count,
        "axes": ["length"],
    }


@functools.partial(jax.jit, static_argnames="dtype")
def _outputs(model: SequenceModel, inputs, *, dtype: str):
    return whole(model.logits(model.hidden(split_rows(inputs), taps={}, dtype=jnp.dtype(dtype)).hidden))


@functools.partial(jax.jit, static_argnames="dtype")
def _sums(model: SequenceModel, inputs, targets, *, dtype: str):
    inputs, targets = split_rows((inputs, targets))
    return whole(token_sums(model.logits, model.hidden(inputs, taps={}, dtype=jnp.dtype(dtype)).hidden, targets))
