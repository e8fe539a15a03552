"""Accuracy of a model on a benchmark task: the most likely token at each scored position, judged by the task's metric.

The examples of a setting are the same for every model, run and machine. Training cannot draw them: its streams of
random numbers are children of its seed (`memjax.data` spawns one per slice and batch), this one is a root.
"""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Int32

from memjax import tasks
from memjax.evaluation.spread import split_rows, whole
from memjax.models import LM
from memjax.tasks import TaskConfig
from memjax.training.loss import gather_positions

SEED = 0x6D656D6A6178  # "memjax" in ASCII
Rows = dict[str, np.ndarray]  # int32 tokens and targets [B, T]; for a real-valued task what its `generate` returns


def recall(
    model: LM, config: TaskConfig, *, examples: int = 1000, batch_size: int = 64, dtype: str = "float32"
) -> dict[str, Any]:
    """One row of a report.

    Args:
        model: the model; its vocabulary must hold the task's.
        config: which task, at which setting.
        examples: rows to draw, always the same ones.
        batch_size: rows in one call of the model.
        dtype: dtype of the model's matrix products.

    Returns:
        "task" (its name), the axes of the setting, what the task's `score` says ("accuracy", ...), "chance" (expected
        accuracy of guessing), "examples", and "axes" (which of the keys are the axes).

    Raises ValueError where the model's vocabulary is too small for the task, or `examples` is not positive.
    """
    name, module = tasks.of(config)
    if model.config.vocab_size < config.vocab_size:
        raise ValueError(
            f"task {name} needs a vocabulary of {config.vocab_size} tokens, the model has {model.config.vocab_size}"
        )
    rows = make_examples(config, examples)
    predictions = predict(model, rows, module.scored(config), batch_size=batch_size, dtype=dtype)
    axes = module.describe(config)
    scores = module.score(predictions, rows, config)
    return {"task": name, **axes, **scores, "chance": chance(config), "examples": examples, "axes": list(axes)}


def make_examples(config: TaskConfig, examples: int) -> Rows:
    """The `examples` rows on which every model is judged."""
    if examples < 1:
        raise ValueError(f"evaluation.examples must be at least 1, got {examples}")
    return tasks.of(config)[1].generate(np.random.default_rng(SEED), examples, config)


def chance(config: TaskConfig) -> float:
    """Expected accuracy of guessing: the task's own `chance(config)`, or a uniform guess over its vocabulary."""
    own = getattr(tasks.of(config)[1], "chance", None)
    return float(own(config)) if own else 1.0 / config.vocab_size


def predict(
    model: LM, rows: Rows, scored: int, *, batch_size: int = 64, dtype: str = "float32"
) -> Int32[np.ndarray, "B T"]:
    """The most likely token at every scored position of `rows`, -1 elsewhere; `scored` bounds their number in a row."""
    positions = np.argsort(rows["targets"] < 0, axis=1, kind="stable")[:, :scored].astype(np.int32)
    pieces = [
        _predict(model, tokens, places, dtype=dtype)
        for tokens, places in zip(_batches(rows["tokens"], batch_size), _batches(positions, batch_size), strict=True)
    ]
    answers = np.concatenate([np.asarray(piece) for piece in pieces])[: len(positions)]
    predictions = np.full(rows["tokens"].shape, -1, np.int32)
    np.put_along_axis(predictions, positions, answers, axis=1)
    return np.where(rows["targets"] >= 0, predictions, -1)


@functools.partial(jax.jit, static_argnames="dtype")
def _predict(model: LM, tokens: Int[Array, "B T"], positions: Int[Array, "B K"], *, dtype: str) -> Int[Array, "B K"]:
    tokens, positions = split_rows((tokens, positions))
    hidden = model.hidden(tokens, taps={}, dtype=jnp.dtype(dtype)).hidden
    return whole(jnp.argmax(model.logits(gather_positions(hidden, positions)), axis=-1).astype(jnp.int32))


def _batches(rows: Int32[np.ndarray, "B N"], size: int) -> Iterator[Int32[np.ndarray, "b N"]]:
    """Pieces of `size` rows; the last one is filled up with copies of the first row, so that one shape is compiled."""
    for start in range(0, len(rows), size):
        piece = rows[start : start + size]
        yield np.concatenate([piece, np.repeat(rows[:1], size - len(piece), axis=0)])
