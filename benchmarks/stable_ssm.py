"""How large a learning rate a state-space model bears, by how its decay is parameterised (StableSSM's claim).

    python -m benchmarks.stable_ssm                   S4D; --mixer LRU, or any other with the field `reparameterization`

Wang and Li, "StableSSM" (https://arxiv.org/abs/2311.14495): with Re A = -f(w), the gradient to w is bounded by
|f'(w)| / f(w) ** 2, which f = 1 / (a w ** 2 + b) ("best") makes proportional to |w|; so training should stay stable at
learning rates at which the usual forms do not. Here: one layer on the linear functional with polynomial memory
(`memjax.tasks.linear_functional`), each parameterisation at each learning rate from the same seeds, without warm-up,
decay of the rate, or clipping. Smaller than the paper's (width 64, ten epochs): width, state and steps are flags.

The seeds of a cell train side by side in one program (`jax.vmap` of the library's training step). The JSON is written
after each cell; a second call goes on with the cells that are missing, and draws the plot again.
"""

import dataclasses
import json
import math
import sys
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import family
from benchmarks.family import time_mixers
from benchmarks.report import Result
from memjax import config as configs
from memjax import data
from memjax.config import ConfigError, EvaluationConfig, OptimizerConfig, TrainConfig
from memjax.config.fields import annotations
from memjax.data import TaskData, TaskSlice
from memjax.evaluation import plots
from memjax.evaluation.evaluators import measure_task
from memjax.evaluation.sweeps import draw_sweep
from memjax.models import BlockConfig, SequenceConfig
from memjax.tasks.linear_functional import LinearFunctionalConfig
from memjax.training.skeleton import Parameters, Skeleton, initial_parameters
from memjax.training.step import TrainState, make_step
from memjax.training.update import Optimizer
from memjax.types import MixerConfig

PROGRAM = "python -m benchmarks.stable_ssm"
FIELD = "reparameterization"
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Flags:
    """Sweeps learning rate and parameterisation on a linear functional; writes a JSON file and a plot."""

    mixer: str = "S4D"
    """Name of a mixer whose config has the field `reparameterization`."""
    rates: tuple[float, ...] = (5e-4, 5e-3, 5e-2, 5e-1, 5e0)
    """Learning rates."""
    seeds: int = 3
    """Runs of a cell: parameters and rows drawn from the seeds 0, 1, ..."""
    steps: int = 300
    """Updates of a run."""
    batch_size: int = 64
    """Rows in an update."""
    length: int = 100
    """Tokens in a row."""
    width: int = 32
    """Channels of the model."""
    state_size: int = 32
    """The mixer's own field of that name."""
    output_dir: str = "benchmarks/results"
    """Folder of stable_ssm_<mixer>.json and stable_ssm_<mixer>.png."""


def main(argv: Sequence[str]) -> int:
    """Runs the command line `argv`; returns the exit status, 2 for wrong usage."""
    try:
        sweep(configs.parse_flags(Flags(), argv, program=PROGRAM))
    except (ValueError, OSError) as error:
        return configs.fail(error)
    return 0


def sweep(flags: Flags, mixers: dict[str, MixerConfig] | None = None, say=print) -> list[Row]:
    """Runs the cells that are missing and returns the rows of all, one a seed.

    Args:
        flags: what to sweep.
        mixers: {parameterisation: config}; None finds them by the name in `flags`.
        say: takes a line a cell.
    """
    if flags.seeds < 1 or flags.steps < 1 or not flags.rates or min(flags.rates) <= 0:
        raise ConfigError("--seeds, --steps and each of --rates must be positive")
    mixers = variants(flags) if mixers is None else mixers
    name = f"stable_ssm_{flags.mixer.lower()}"
    path = Path(flags.output_dir) / f"{name}.json"
    title = f"{flags.mixer}, linear functional with polynomial memory, {flags.steps} steps"
    runs = {fingerprint(config, flags): (kind, rate, config) for kind, rate, config in cells(flags, mixers)}
    known = {run: rows for run, rows in _written(path).items() if run in runs}
    for run, (kind, rate, config) in runs.items():
        words = " (was there)" if run in known else ""
        if not words:
            known[run] = [{FIELD: kind, **row, "run": run} for row in train(config, flags.seeds)]
            Result(name, title, [row for each in runs for row in known.get(each, [])]).write(path.parent)
        errors = " ".join("diverged" if row["diverged"] else f"{row['mse']:.3g}" for row in known[run])
        say(f"{kind:<10} learning rate {rate:<8g} mse {errors}{words}")
    rows = [row for run in runs for row in known[run]]
    plots.emit(draw_sweep(rows, line=FIELD, title=title), path.with_suffix(".png"))
    say(f"written: {path}, {path.with_suffix('.png')}")
    return rows


def variants(flags: Flags) -> dict[str, MixerConfig]:
    """{parameterisation: config} of the mixer in `flags`. Raises ConfigError where it has none."""
    found = time_mixers()
    fields = {name: {field.name for field in dataclasses.fields(config)} for name, config in found.items()}
    able = [name for name in found if FIELD in fields[name]]
    if flags.mixer not in able:
        raise ConfigError(f"--mixer: {flags.mixer!r} has no field {FIELD}; there are {', '.join(able) or 'none'}")
    config = found[flags.mixer]
    kinds = typing.get_args(annotations(type(config))[FIELD])
    size = {"state_size": flags.state_size} if "state_size" in fields[flags.mixer] else {}
    return {kind: dataclasses.replace(config, **size, **{FIELD: kind}) for kind in kinds}


def cells(flags: Flags, mixers: dict[str, MixerConfig]) -> Iterator[tuple[str, float, TrainConfig]]:
    """(parameterisation, learning rate, the run), all rates of a parameterisation before the next one."""
    for kind, mixer in mixers.items():
        for rate in flags.rates:
            yield kind, rate, run_of(mixer, rate, flags)


def run_of(mixer: MixerConfig, rate: float, flags: Flags) -> TrainConfig:
    """The run of a cell; its seed is replaced."""
    return TrainConfig(
        output_dir="unused",
        model=SequenceConfig(width=flags.width, blocks=(BlockConfig(mixer=mixer, mlp=None),), repeats=1),
        data=TaskData(train=(TaskSlice(LinearFunctionalConfig(length=flags.length)),)),
        steps=flags.steps,
        batch_size=flags.batch_size,
        optimizer=OptimizerConfig(
            learning_rate=rate, warmup_steps=0, final_fraction=1.0, weight_decay=0.01, b2=0.999, clip=None
        ),
        evaluation=EvaluationConfig(examples=256),
    )


def train(config: TrainConfig, count: int) -> list[Row]:
    """Trains the seeds of a cell side by side; a row each, with the error on rows that were never trained."""
    skeleton, seeds = Skeleton.of(config.model), range(count)
    optimizer = Optimizer(config, skeleton)
    step = jax.jit(jax.vmap(make_step(config, skeleton, optimizer)), donate_argnums=0)

    def initial(seed: int) -> TrainState:
        parameters = initial_parameters(config.model, seed)
        return TrainState(parameters, optimizer.init(parameters), jnp.zeros((), jnp.int32))

    state = jax.tree.map(lambda *each: jnp.stack(each), *map(initial, seeds))
    loaders = [iter(data.train_loader(config.data, batch_size=config.batch_size, seed=seed)) for seed in seeds]
    for _ in range(config.steps):
        batches = [next(loader) for loader in loaders]
        batch = {name: np.stack([rows[name] for rows in batches])[:, None] for name in batches[0]}
        state, _ = step(state, batch)
    return [_row({n: x[i] for n, x in state.parameters.items()}, skeleton, config, i) for i in seeds]


def _row(parameters: Parameters, skeleton: Skeleton, config: TrainConfig, seed: int) -> Row:
    assert isinstance(config.data, TaskData)
    measured = measure_task(skeleton.model(parameters), config.data.train[0].task, config)
    diverged = not math.isfinite(measured["mse"])
    return {
        "learning_rate": config.optimizer.learning_rate,
        "seed": seed,
        "mse": None if diverged else measured["mse"],
        "relative_mse": None if diverged else measured["relative_mse"],
        "diverged": diverged,
    }


def fingerprint(config: TrainConfig, flags: Flags) -> str:
    """What a cell was measured with; a row of another experiment is not kept."""
    return f"{family.fingerprint(config)}-{flags.seeds}"


def _written(path: Path) -> dict[str, list[Row]]:
    """The rows of an earlier call, by the cell they belong to."""
    found: dict[str, list[Row]] = {}
    for row in json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []:
        found.setdefault(row["run"], []).append(row)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
