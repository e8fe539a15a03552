"""What a run can be asked for by name (`eval.py --tasks NAME`), and the rows of a report that answer.

A name is a task, `memjax.tasks.TASKS` or `CONTINUOUS`, or one of `MEASUREMENTS`: what is measured of a run beside them.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from memjax import tasks
from memjax.config import ConfigError, TrainConfig
from memjax.data import DigitData, StoredData
from memjax.evaluation.decoding import DECODING, decoding
from memjax.evaluation.evaluators import label, measure_knowledge, measure_task, row_name, task_suite
from memjax.evaluation.extrapolation import EXTRAPOLATION, extrapolation
from memjax.evaluation.needle_map import NEEDLE_MAP, needle_map, reads_bytes
from memjax.evaluation.sequences import DIGITS, classification
from memjax.evaluation.text import text_loss
from memjax.tasks import TaskConfig
from memjax.training.skeleton import Model

TEXT = "text"
Row = dict[str, Any]
Setting = TaskConfig | str


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Attributes:
    suits: whether a run with this configuration can be asked for it.
    rows: (model, configuration) -> rows of the report.
    unasked: whether a run that suits is asked for it where no task is named.
    """

    suits: Callable[[TrainConfig], bool]
    rows: Callable[[Any, TrainConfig], list[Row]]
    unasked: bool = True


MEASUREMENTS: dict[str, Measurement] = {
    TEXT: Measurement(
        suits=lambda config: isinstance(config.data, StoredData),
        rows=lambda model, config: [{"task": TEXT, **text_loss(model, config, by_position=True)}],
    ),
    EXTRAPOLATION: Measurement(
        suits=lambda config: isinstance(config.data, StoredData),
        rows=extrapolation,
        unasked=False,
    ),
    DECODING: Measurement(
        suits=lambda config: config.model.vocab_size > 0,
        rows=decoding,
        unasked=False,
    ),
    NEEDLE_MAP: Measurement(suits=reads_bytes, rows=needle_map, unasked=False),
    DIGITS: Measurement(
        suits=lambda config: isinstance(config.data, DigitData),
        rows=lambda model, config: [classification(model, config)],
    ),
}


def settings(run_dir: str | Path, config: TrainConfig, names: Sequence[str] | None) -> tuple[Setting, ...]:
    """What `names` ask of a run: names of `MEASUREMENTS` and settings of tasks; None: what the run itself asks for.

    A task that the run does not ask for is taken at its default setting, with the vocabulary of the model. Raises
    ConfigError for a name that is unknown or does not suit the run, and for a vocabulary that is too small for a task.
    """
    own = [name for name, found in MEASUREMENTS.items() if found.suits(config)]
    if names is None:
        return (*(name for name in own if MEASUREMENTS[name].unasked), *task_suite(config))
    known = [*sorted(tasks.CONTINUOUS if config.model.vocab_size == 0 else tasks.TASKS), *own]
    for name in names:
        if name not in known:
            raise ConfigError(f"{run_dir}: unknown task {name!r}; known tasks: {', '.join(known)}")
    return tuple(setting for name in dict.fromkeys(names) for setting in _settings(run_dir, config, name))


def _settings(run_dir: str | Path, config: TrainConfig, name: str) -> Sequence[Setting]:
    if name in MEASUREMENTS:
        return (name,)
    own = [task for task in task_suite(config) if tasks.of(task)[0] == name]
    try:
        if name in tasks.CONTINUOUS:
            return own or (tasks.CONTINUOUS[name].Config(),)
        return own or (tasks.TASKS[name].Config(vocab_size=config.model.vocab_size),)
    except ValueError as error:
        raise ConfigError(f"{run_dir}: its vocabulary of {config.model.vocab_size} is too small: {error}") from None


def measure(model: Model, config: TrainConfig, suite: Sequence[Setting], say: Callable[[str], None]) -> list[Row]:
    """The rows of a report: one or more for each of `suite`, each said in a line."""
    rows: list[Row] = []
    for setting in suite:
        if isinstance(setting, str):  # the configuration was validated: the model fits what it is asked
            found = MEASUREMENTS[setting].rows(cast(Any, model), config)
        else:
            found = [measure_task(model, setting, config)]
        for row in found:
            say(f"  {_name(setting, row):<32} {_words(row)}")
        rows += found
    for row in measure_knowledge(model, suite, config):
        rows.append(row)
        say(
            f"  {row['task']}/people={row['people']},form={row['form']}: {row['bits']:.0f} bits, "
            f"{row['bits_per_parameter']:.3f} per parameter; {_words(row)}"
        )
    return rows


def _name(setting: Setting, row: Row) -> str:
    """What a row is about: the setting of a task, the cell of a map, or the measurement."""
    if not isinstance(setting, str):
        return label(setting)
    if row["task"] == setting:
        return setting
    return row_name(row["task"], {axis: row[axis] for axis in row["axes"]})


def _words(row: Row) -> str:
    """What a row says, for the eye."""
    if row["task"] == DECODING:
        times = f"prefill {row['prefill_ms_per_token']:.3g}, decode {row['decode_ms_per_token']:.3g} ms per token"
        return f"context {row['context']:,}: {times}, state {row['state_bytes']:,} bytes"
    if row["task"] == EXTRAPOLATION:
        last = f"loss {row['loss']:.4f} nats per token, {row['last_loss']:.4f} on the last {row['trained_length']:,}"
        return f"length {row['length']:,}: {last}"
    if "bits_per_byte" in row:
        return f"{row['bits_per_byte']:.4f} bits per byte, loss {row['loss']:.4f} nats per token"
    if "accuracy" in row:
        return f"accuracy {row['accuracy']:.4f} (chance {row['chance']:.4f})"
    return f"mean squared error {row['mse']:.3g} (relative {row['relative_mse']:.3g})"
