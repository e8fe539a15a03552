"""A finished or running experiment, read back from its directory. Nothing in it is ever executed."""

import json
from pathlib import Path
from typing import Any

from memjax import config as experiment
from memjax.config import TrainConfig
from memjax.training.checkpoints import restore_parameters
from memjax.training.skeleton import Model, Skeleton


def load_run(run_dir: str | Path) -> tuple[Model, TrainConfig]:
    """The model with the parameters of the newest intact checkpoint, and the configuration that made it.

    Args:
        run_dir: the output directory of a training run.

    Raises FileNotFoundError where `run_dir` is not a run or holds no checkpoint, ValueError where its configuration or
    all of its checkpoints are damaged; a damaged newest checkpoint is passed over with a warning on standard error.
    """
    model, config, _ = load_step(run_dir)
    return model, config


def load_step(run_dir: str | Path) -> tuple[Model, TrainConfig, int]:
    """As `load_run`, with the number of steps that the checkpoint had been trained for."""
    config = load_config(run_dir)
    skeleton = Skeleton.of(config.model)
    step, parameters = restore_parameters(run_dir, skeleton.abstract)
    return skeleton.model(parameters), config, step


def load_config(run_dir: str | Path) -> TrainConfig:
    """The saved configuration of a run; the errors are those of `load_run`."""
    path = Path(run_dir) / "config.json"
    if not Path(run_dir).is_dir():
        raise FileNotFoundError(f"{run_dir}: no such run directory")
    if not path.is_file():
        raise FileNotFoundError(f"{run_dir}: not a run (it holds no config.json)")
    return experiment.load(path)


def read_metrics(run_dir: str | Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl; empty where there is none. A last line that was cut off is left out."""
    path, rows = Path(run_dir) / "metrics.jsonl", []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:  # the run was killed, or is writing, in the middle of a row
            continue
    return rows
