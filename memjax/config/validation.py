"""Checks of a whole configuration before anything is built: sizes, divisibility, vocabularies."""

import math
from collections.abc import Callable, Iterator
from typing import Any

from memjax.config.experiment import MeshConfig, TrainConfig, task_suite
from memjax.config.fields import ConfigError, flag, leaves
from memjax.data.config import DigitData, TaskData
from memjax.models import SequenceConfig
from memjax.tasks import ContinuousConfig, TaskConfig, of

_POSITIVE = (
    "batch_size accumulate log_every checkpoint_every evaluate_every loss_chunk "
    "model.vocab_size model.features model.outputs model.width model.repeats "
    "optimizer.learning_rate optimizer.schedule_steps optimizer.eps optimizer.clip "
    "optimizer.table.learning_rate optimizer.table.eps optimizer.table.clip "
    "evaluation.examples evaluation.batch_size evaluation.batches"
)
_NOT_NEGATIVE = (
    "steps seed optimizer.warmup_steps optimizer.final_fraction optimizer.weight_decay "
    "optimizer.table.warmup_steps optimizer.table.final_fraction "
    "evaluation.sample_steps evaluation.temperature"
)
_DECAYS = "optimizer.b1 optimizer.b2 optimizer.momentum optimizer.table.b1 optimizer.table.b2"

_BOUNDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **{name: (lambda x: 0 < x < math.inf, "must be positive") for name in _POSITIVE.split()},
    **{name: (lambda x: 0 <= x < math.inf, "must not be negative") for name in _NOT_NEGATIVE.split()},
    **{name: (lambda x: 0 <= x < 1, "must lie in [0, 1)") for name in _DECAYS.split()},
    "keep_checkpoints": (
        lambda x: x >= 2,
        "must be at least 2: the newest may turn out damaged",
    ),
    "mesh.sequence": (lambda x: x == 1, "must be 1, splitting time is not implemented"),
}


def validate(config: TrainConfig) -> None:
    """Raises ConfigError for the first thing in a configuration that cannot work, naming its flag.

    Data files are not looked at (`memjax.data.check` does), devices are not counted (`memjax.sharding.make_mesh` does).
    """
    for problem in _problems(config):
        raise ConfigError(problem)


def _problems(config: TrainConfig) -> Iterator[str]:
    for leaf in leaves(config):
        fine, words = _BOUNDS.get(leaf.name, (None, ""))
        if fine is not None and leaf.value is not None and not fine(leaf.value):
            yield f"{flag(leaf.name)} {words}, got {leaf.value}"
    if not config.output_dir:
        yield "--output-dir is empty"
    if not config.model.blocks:
        yield "model.blocks is empty, a model needs at least one block"
    if config.batch_size % config.accumulate:
        yield f"--batch-size {config.batch_size} is no multiple of --accumulate {config.accumulate}"
    yield from _mesh_problems(config.mesh, config.batch_size // config.accumulate)
    yield from _kind_problems(config)
    yield from _vocabulary_problems(config)
    yield from _suite_problems(config)


def _mesh_problems(mesh: MeshConfig, rows: int) -> Iterator[str]:
    sizes = {"data": mesh.data, "fsdp": mesh.fsdp, "tensor": mesh.tensor}
    for name, size in sizes.items():
        if size < 1 and size != -1:
            yield f"--mesh.{name} must be positive, or -1 for all devices that are left, got {size}"
    if list(sizes.values()).count(-1) > 1:
        yield "--mesh: only one axis can be -1"
    elif mesh.data > 0 and mesh.fsdp > 0 and rows % (mesh.data * mesh.fsdp):
        yield (
            f"a micro-batch of {rows} rows (--batch-size over --accumulate) does not split evenly over "
            f"--mesh.data {mesh.data} x --mesh.fsdp {mesh.fsdp} devices"
        )


def _kind_problems(config: TrainConfig) -> Iterator[str]:
    """Tokens go to a language model, real-valued rows to a sequence model of their sizes."""
    parts: list = [part.task for part in config.data.train] if isinstance(config.data, TaskData) else [config.data]
    parts += config.evaluation.tasks
    real = [part for part in parts if isinstance(part, ContinuousConfig | DigitData)]
    if not isinstance(config.model, SequenceConfig):
        if real:
            yield f"{type(real[0]).__name__} has real-valued rows: the model must be a SequenceConfig"
        return
    if len(real) < len(parts):
        yield "a SequenceConfig reads real-valued rows, but data or evaluation.tasks hold tokens"
    for part in real:
        for name in ("features", "outputs"):
            if getattr(config.model, name) != getattr(part, name):
                yield f"--model.{name} must be {getattr(part, name)} for {type(part).__name__}"
        if (config.model.pool is None) == isinstance(part, DigitData):
            needs = "mean or last, one class a row" if isinstance(part, DigitData) else "None, an output a token"
            yield f"--model.pool must be {needs}, for {type(part).__name__}"


def _vocabulary_problems(config: TrainConfig) -> Iterator[str]:
    slices = config.data.train if isinstance(config.data, TaskData) else ()
    tasks = {f"data.train.{index}.task": part.task for index, part in enumerate(slices)}
    tasks |= {f"evaluation.tasks.{index}": task for index, task in enumerate(config.evaluation.tasks)}
    for name, task in tasks.items():
        if task.vocab_size > config.model.vocab_size:
            yield (
                f"{flag(name)}.vocab-size {task.vocab_size} does not fit into "
                f"--model.vocab-size {config.model.vocab_size}"
            )


def _suite_problems(config: TrainConfig) -> Iterator[str]:
    """A log and a report know a task by its name and axes: two that share them would be one."""
    seen: dict[str, TaskConfig] = {}
    for task in task_suite(config):
        name, module = of(task)
        shown = f"{name} {module.describe(task)}"
        if seen.setdefault(shown, task) != task:
            yield f"--evaluation.tasks: two different settings are both {shown} in a report; judge them in two runs"
