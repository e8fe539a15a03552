"""The training loop: `fit` starts, resumes or extends a run and keeps its directory."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
from jax.sharding import Mesh

from memjax import config as configs
from memjax import data
from memjax.config import TrainConfig
from memjax.sharding import make_mesh
from memjax.training import runs
from memjax.training.checkpoints import CheckpointStore
from memjax.training.feed import Feed, make_place
from memjax.training.finite import check_step
from memjax.training.metrics import MetricsLog
from memjax.training.progress import Progress, describe_evaluation
from memjax.training.setup import Setup, prepare, start
from memjax.training.signals import StopRequests
from memjax.training.skeleton import Model
from memjax.training.step import Metrics, TrainState, rows_in
from memjax.training.throughput import Throughput

Evaluator = Callable[[Any, int], dict[str, float]]  # (model, step) -> numbers by name
Status = Literal["done", "already done", "stopped", "interrupted", "out of time"]


class FitResult(NamedTuple):
    """How a call of `fit` ended.

    Attributes:
        step: updates done in the run as a whole.
        model: the model after them.
        status: "done"; "already done" where there was nothing to do; "stopped" by SIGTERM, "interrupted" by Ctrl-C and
            "out of time" by `seconds`, all saved: the next call goes on from there.
    """

    step: int
    model: Model
    status: Status


def fit(
    config: TrainConfig,
    *,
    evaluators: Sequence[Evaluator] = (),
    say: Callable[[str], None] = print,
    seconds: float | None = None,
) -> FitResult:
    """Trains until `config.steps` updates are done, going on from where the run in `config.output_dir` was.

    Args:
        config: the run; its directory then holds config.json, metrics.jsonl and checkpoints/.
        evaluators: called every `evaluate_every` steps and at the end; their numbers are "eval/..." in the metrics.
        say: takes lines for a person to read (process 0 only).
        seconds: stop at the first step boundary after so much time of this call, compilation included; None: no limit.

    Raises:
        FileExistsError: another process is training in the directory, or what it holds is not a run.
        ValueError (ConfigError among them), FileNotFoundError: a bad configuration or bad data, a directory that holds
            another run, no intact checkpoint among those that are there.
        NonFiniteError: a loss, gradient or parameter became NaN or infinite; the last good checkpoint stays the newest.
    """
    say = say if jax.process_index() == 0 else _silent
    config = runs.resolve(config)
    configs.validate(config)
    data.check(config.data, config.model.vocab_size)
    say(data.describe(config.data))
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.sequence, config.mesh.tensor)
    with (
        runs.held(config.output_dir),
        jax.set_mesh(mesh),
        CheckpointStore(config.output_dir, keep=config.keep_checkpoints, say=say) as store,
    ):
        return _fit(config, mesh, evaluators, say, store, seconds)


def _fit(
    config: TrainConfig,
    mesh: Mesh,
    evaluators: Sequence[Evaluator],
    say: Callable[[str], None],
    store: CheckpointStore,
    seconds: float | None,
) -> FitResult:
    store.clear_unfinished()
    setup = prepare(config, mesh)
    rows = iter(
        data.train_loader(
            config.data,
            batch_size=config.batch_size,
            seed=config.seed,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
    )
    state, first = start(config, setup, store, rows, say)
    with StopRequests(seconds) as requests:  # until here a signal ends the process as usual: there is nothing to save
        runs.write_config(config)
        first_process = jax.process_index() == 0
        mirrors = {"tensorboard": config.tensorboard, "wandb": config.wandb}
        with (
            MetricsLog(config.output_dir, after=first, writes=first_process, **mirrors) as log,
            Progress(first, config.steps, say, bar=None if first_process else False) as progress,
            Feed(rows, make_place(mesh, config.accumulate, data.scored(config.data))) as feed,
        ):
            loop = _Loop(config, setup, store, log, progress, evaluators)
            state, step, status = loop.run(state, first, feed, requests)
            store.wait()
    return FitResult(step, setup.skeleton.model(state.parameters), status)


class _Loop:
    """Dispatches steps, reads their metrics one step late, and saves and evaluates on its cadences."""

    def __init__(self, config: TrainConfig, setup: Setup, store: CheckpointStore, log, progress, evaluators):
        self._config, self._setup, self._store, self._log = config, setup, store, log
        self._progress, self._evaluators = progress, evaluators
        self._config_json = configs.to_json(config)
        self._throughput = Throughput()
        self._forward_flops = functools.cache(setup.skeleton.flops_per_token)
        self._unread: tuple[int, int, Metrics] | None = None  # step, row length, metrics still on their way
        self._compiled: set[tuple[int, ...]] = set()
        self._position: Any = None

    def run(self, state: TrainState, first: int, feed: Feed, requests: StopRequests) -> tuple[TrainState, int, Status]:
        steps, step = self._config.steps, first
        evaluated = first > 0 and self._evaluation_due(first) and not self._log.has(first, "eval/")
        if evaluated:  # the run was cut off between saving and evaluating
            self._evaluate(first, state)
        if first >= steps:
            return state, first, "done" if evaluated else "already done"
        while step < steps:
            asked = requests.at(step)
            if asked is not None:
                self._save(step, state)
                return state, step, asked
            state, step = self._advance(state, step + 1, feed), step + 1
            if step == steps or _every(self._config.checkpoint_every, step):
                self._save(step, state)
            if self._evaluation_due(step):
                self._evaluate(step, state)
        return state, step, "done"

    def _advance(self, state: TrainState, step: int, feed: Feed) -> TrainState:
        """Dispatches update `step`, then reads the metrics of the one before it, which the device has finished."""
        batch, self._position = next(feed)
        shape = rows_in(batch).shape
        if shape in self._compiled:
            state, metrics = self._setup.step(state, batch)
        else:
            self._read()
            with self._throughput.paused():
                state, metrics = self._setup.step(state, batch)
            self._compiled.add(shape)
        self._read()
        self._unread = step, shape[2], metrics
        self._progress.advance()
        return state

    def _read(self) -> None:
        """Reads the metrics that are on their way: stops the run if they are not finite, logs them if it is time."""
        if self._unread is None:
            return
        (step, length, metrics), self._unread = self._unread, None
        values = jax.device_get(metrics)
        squares, names = values.pop("gradient_squares"), self._setup.skeleton.abstract
        row = {name: value.item() for name, value in values.items()}
        check_step(step, row["loss"], row["gradient_norm"], squares, names)
        self._throughput.count(row.pop("tokens"), 3 * self._forward_flops(length))  # backward: twice forward
        if step == self._config.steps or _every(self._config.log_every, step):
            row |= self._throughput.report()
            self._log.write(step, row)
            self._progress.show(step, row)

    def _save(self, step: int, state: TrainState) -> None:
        """Saves a state whose own loss and gradient norm were read as finite."""
        self._read()
        if self._position is None:
            return  # no step yet since the checkpoint that this process began with
        with self._throughput.paused():
            self._store.save(step, state, self._position, self._config_json)

    def _evaluate(self, step: int, state: TrainState) -> None:
        self._read()
        with self._throughput.paused():
            model, values = self._setup.skeleton.model(state.parameters), {}
            for evaluator in self._evaluators:
                values |= evaluator(model, step)
        if values:
            self._log.write(step, {f"eval/{name.removeprefix('eval/')}": value for name, value in values.items()})
            self._progress.say(f"step {step}/{self._config.steps}  evaluation: {describe_evaluation(values)}")

    def _evaluation_due(self, step: int) -> bool:
        return bool(self._evaluators) and (step == self._config.steps or _every(self._config.evaluate_every, step))


def _silent(line: str) -> None:
    """What other processes than the first say."""


def _every(cadence: int, step: int) -> bool:
    """Whether `step` is on a cadence; 0 is never."""
    return cadence > 0 and step % cadence == 0
