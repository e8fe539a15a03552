"""What the training loop measures as it goes."""

from collections.abc import Callable
from typing import Any

from memjax import tasks
from memjax.config import TrainConfig
from memjax.data import TaskData
from memjax.evaluation.recall import recall
from memjax.evaluation.text import evaluation_batch, text_loss
from memjax.models import LM
from memjax.tasks import TaskConfig

Evaluator = Callable[[LM, int], dict[str, float]]


def evaluators(config: TrainConfig) -> list[Evaluator]:
    """Functions (model, step) -> {"eval/...": number} for `memjax.training.fit`.

    Text runs get "eval/loss" (nats per token) and "eval/bits_per_byte" over `evaluation.batches` batches, and over the
    whole split after the last step. Each task of `task_suite` gets "eval/<task>/<axes>/accuracy", and "eval/accuracy"
    is their mean.
    """
    found: list[Evaluator] = []
    if not isinstance(config.data, TaskData):
        found.append(lambda model, step: _text(model, step, config))
    suite = task_suite(config)
    if suite:
        found.append(lambda model, step: _recall(model, config, suite))
    return found


def task_suite(config: TrainConfig) -> tuple[TaskConfig, ...]:
    """The tasks that a run is judged on: `evaluation.tasks`, or else those that it was trained on."""
    if config.evaluation.tasks or not isinstance(config.data, TaskData):
        return config.evaluation.tasks
    return tuple(dict.fromkeys(piece.task for piece in config.data.train))


def label(config: TaskConfig) -> str:
    """A short name of a setting: "mqar/pairs=4,length=64"."""
    name, module = tasks.of(config)
    return f"{name}/" + ",".join(f"{axis}={value}" for axis, value in module.describe(config).items())


def recall_of_run(model: LM, task: TaskConfig, config: TrainConfig) -> dict[str, Any]:
    """`recall` with the run's number of examples, batch and dtype."""
    return recall(
        model,
        task,
        examples=config.evaluation.examples,
        batch_size=evaluation_batch(config),
        dtype=config.compute_dtype,
    )


def _text(model: LM, step: int, config: TrainConfig) -> dict[str, float]:
    batches = None if step >= config.steps else config.evaluation.batches
    measured = text_loss(model, config, batches=batches)
    return {f"eval/{name}": measured[name] for name in ("loss", "bits_per_byte")}


def _recall(model: LM, config: TrainConfig, suite: tuple[TaskConfig, ...]) -> dict[str, float]:
    scores = {label(task): recall_of_run(model, task, config)["accuracy"] for task in suite}
    rows = {f"eval/{name}/accuracy": accuracy for name, accuracy in scores.items()}
    return rows | {"eval/accuracy": sum(scores.values()) / len(scores)}
