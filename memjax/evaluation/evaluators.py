"""What the training loop measures as it goes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from memjax import tasks
from memjax.config import TrainConfig
from memjax.config import task_suite as task_suite
from memjax.data import DigitData, StoredData
from memjax.evaluation.knowledge import knowledge, populations
from memjax.evaluation.recall import chance, recall
from memjax.evaluation.sequences import classification, regression
from memjax.evaluation.text import evaluation_batch, text_loss
from memjax.tasks import ContinuousConfig, TaskConfig

KNOWLEDGE = "knowledge"  # the name, among tasks, of what is known of a population of biographies
NEAREST = "nearest_accuracy"  # of a real-valued task: how many answers are nearest to the right one
Evaluator = Callable[[Any, int], dict[str, float]]


def evaluators(config: TrainConfig) -> list[Evaluator]:
    """Functions (model, step) -> {"eval/...": number} for `memjax.training.fit`.

    Text runs get "eval/loss" (nats per token) and "eval/bits_per_byte" over `evaluation.batches` batches, and over the
    whole split after the last step; runs on pictures "eval/loss" and "eval/accuracy" over all that are held out. Each
    task of `task_suite` gets "eval/<task>/<axes>/accuracy", and "eval/accuracy" is their mean; "mse" if real-valued,
    and "nearest_accuracy" where the task has it.
    A population of biographies in it also gets "eval/knowledge/people=...,form=.../..." with "loss" (nats per value
    token), "attribute_accuracy" and "bits", from at most `evaluation.examples` people.
    """
    found: list[Evaluator] = []
    if isinstance(config.data, DigitData):
        found.append(lambda model, step: _digits(model, config))
    if isinstance(config.data, StoredData):
        found.append(lambda model, step: _text(model, step, config))
    suite = task_suite(config)
    if suite:
        found.append(lambda model, step: _tasks(model, config, suite))
    if populations(suite):
        found.append(lambda model, step: _knowledge(model, config, suite))
    return found


def label(config: TaskConfig) -> str:
    """A short name of a setting: "mqar/pairs=4,length=64"."""
    name, module = tasks.of(config)
    return row_name(name, module.describe(config))


def row_name(task: str, axes: Mapping[str, Any]) -> str:
    """A task, and the values of the axes that its row of a report stands at."""
    return f"{task}/" + ",".join(f"{axis}={value}" for axis, value in axes.items()) if axes else task


def measure_task(model: Any, task: TaskConfig, config: TrainConfig) -> dict[str, Any]:
    """`recall`, or `regression` for a real-valued task, with the run's number of examples, batch and dtype."""
    settings: dict[str, Any] = {
        "examples": config.evaluation.examples,
        "batch_size": evaluation_batch(config),
        "dtype": config.compute_dtype,
    }
    if isinstance(task, ContinuousConfig):
        return regression(model, task, **settings)
    return recall(model, task, **settings)


def measure_knowledge(model: Any, suite: Sequence[object], config: TrainConfig) -> list[dict[str, Any]]:
    """A row of a report for each population of biographies in `suite`: what `knowledge` says of it."""
    settings: dict[str, Any] = {"batch_size": evaluation_batch(config), "dtype": config.compute_dtype}
    return [
        {
            "task": KNOWLEDGE,
            "people": task.people,
            "form": task.form,
            **knowledge(model, task, people=config.evaluation.examples, **settings),
            "chance": chance(task),
            "examples": min(task.people, config.evaluation.examples),
        }
        for task in populations(suite)
    ]


def metric(row: Mapping[str, Any]) -> str:
    """The name of the number that a row of a report is about."""
    return next(name for name in ("accuracy", "mse", "bits_per_byte") if name in row)


def _digits(model: Any, config: TrainConfig) -> dict[str, float]:
    row = classification(model, config)
    return {f"eval/{name}": row[name] for name in ("loss", "accuracy")}


def _text(model: Any, step: int, config: TrainConfig) -> dict[str, float]:
    batches = None if step >= config.steps else config.evaluation.batches
    measured = text_loss(model, config, batches=batches)
    return {f"eval/{name}": measured[name] for name in ("loss", "bits_per_byte")}


def _knowledge(model: Any, config: TrainConfig, suite: tuple[TaskConfig, ...]) -> dict[str, float]:
    return {
        f"eval/{KNOWLEDGE}/people={row['people']},form={row['form']}/{name}": row[name]
        for row in measure_knowledge(model, suite, config)
        for name in ("loss", "attribute_accuracy", "bits")
    }


def _tasks(model: Any, config: TrainConfig, suite: tuple[TaskConfig, ...]) -> dict[str, float]:
    rows = [measure_task(model, task, config) for task in suite]
    name = metric(rows[0])
    scores = {f"eval/{label(task)}/{name}": row[name] for task, row in zip(suite, rows, strict=True)}
    mean = {f"eval/{name}": sum(scores.values()) / len(scores)}
    nearest = [(task, row[NEAREST]) for task, row in zip(suite, rows, strict=True) if NEAREST in row]
    return scores | {f"eval/{label(task)}/{NEAREST}": value for task, value in nearest} | mean
