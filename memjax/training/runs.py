"""A run's directory: who may train in it, and with which configuration."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from memjax import config as configs
from memjax.config import TrainConfig
from memjax.training import checkpoints, metrics

CONFIG = "config.json"


def resolve(config: TrainConfig) -> TrainConfig:
    """The configuration to train with: what was asked for, with what an earlier start of the run has fixed.

    Reads only. Raises ConfigError where the output directory holds another run, with the differences, and
    FileExistsError where it holds results without a configuration.
    """
    run_dir = Path(config.output_dir)
    if (run_dir / CONFIG).exists():
        return configs.resume(configs.load(run_dir / CONFIG), config)
    for name in (checkpoints.FOLDER, metrics.FILE):
        if (run_dir / name).exists():
            raise FileExistsError(f"{run_dir} holds {name} but no {CONFIG}: not overwriting it")
    return configs.resolve(config)


def write_config(config: TrainConfig) -> None:
    """Writes RUN_DIR/config.json (process 0 only)."""
    if jax.process_index() == 0:
        configs.save(config, Path(config.output_dir) / CONFIG)


@contextlib.contextmanager
def held(run_dir: str | Path) -> Iterator[None]:
    """Context in which this run's processes are the only ones that train in `run_dir`.

    The lock goes away with the process, however it ends. Raises FileExistsError where another process has it.
    """
    if jax.process_index() != 0:
        yield
        return
    Path(run_dir).mkdir(parents=True, exist_ok=True)
    with (Path(run_dir) / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileExistsError(f"{run_dir}: another process is training here") from None
        except OSError:
            pass  # a file system without locks
        yield


def position_of(positions: list[Any]) -> Any:
    """Where this process goes on in its data, from the positions of all processes that saved the checkpoint.

    Raises ValueError where the number of processes changed and the positions differ (packed text); positions that are
    all the same serve any number.
    """
    if len(positions) == jax.process_count():
        return positions[jax.process_index()]
    if all(position == positions[0] for position in positions):
        return positions[0]
    raise ValueError(
        f"data: the checkpoint was written by {len(positions)} processes and its text goes on only with as many, "
        f"not {jax.process_count()}"
    )
