"""Runs tasks of lm-evaluation-harness on a model: one name after the other, so that what fails alone is left out."""

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any, NamedTuple

import lm_eval.api.model
import lm_eval.api.task
from lm_eval.api.model import LM as HarnessModel
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager
from tqdm import tqdm

from memjax.config import TrainConfig
from memjax.data.tokenizers import Tokenizer, load_tokenizer
from memjax.evaluation.harness import catalogue
from memjax.evaluation.harness.adapter import HarnessLM
from memjax.evaluation.harness.request import HarnessRequest
from memjax.evaluation.harness.rows import Row, describe, foreign_rows, local_rows, words
from memjax.models import LM

FEWSHOT_SEED = 1234
"""Chooses the worked examples of tasks that show some; the harness's own default."""


class Skipped(NamedTuple):
    """A name that was asked for and not evaluated, and why."""

    task: str
    reason: str


def add_rows(
    report: dict[str, Any], model: LM, config: TrainConfig, request: HarnessRequest, say: Callable[[str], None]
) -> None:
    """Evaluates what `request` names and puts it into a run's report: "results", "skipped", and the version."""
    tokenizer = load_tokenizer(config.data)
    sizes = {"batch_size": config.evaluation.batch_size} if config.evaluation.batch_size else {}
    harness_model = HarnessLM(model, tokenizer, dtype=config.compute_dtype, seed=config.seed, **sizes)
    rows, skipped = measure(harness_model, tokenizer, request, say)
    report["results"] += rows
    report["skipped"] = dict(skipped)
    report["versions"]["lm_eval"] = metadata.version("lm_eval")


def measure(
    model: HarnessModel, tokenizer: Tokenizer, request: HarnessRequest, say: Callable[[str], None]
) -> tuple[list[Row], list[Skipped]]:
    """Evaluates each name of `request`, a line said for each row, then one with the protocol.

    Args:
        model: the model as the harness sees it.
        tokenizer: the model's; the windows of clozes are counted in its tokens.
        request: what to evaluate; its names exist (`request.check`).
        say: where lines go.

    Returns:
        Rows: "task" ("harness/<name>"), the axes of its setting, its metrics ("accuracy" or "contains", a share of
        answers that are right, "perplexity", ...), "stderr" of the first metric (with two examples or more),
        "examples", "protocol" in a line, "axes", "chance" (where it is known).
        Names whose data could not be had.
    """
    rows: list[Row] = []
    skipped: list[Skipped] = []
    for name in dict.fromkeys(request.harness):
        try:
            new = _evaluated(model, tokenizer, name, request)
        except Exception as error:  # a task of the harness fetches its data, and judges answers, with code of its own
            if catalogue.is_local(name) or os.environ.get("MEMJAX_TRACEBACK") == "1":
                raise
            skipped.append(Skipped(name, _reason(error)))
            say(f"  {name}: {skipped[-1].reason}")
            continue
        for row in new:
            say(f"  {describe(row):<32} {words(row)}")
        for line in dict.fromkeys(row["protocol"] for row in new):
            say(f"    {line}")
        rows += new
    return rows, skipped


def _evaluated(model: HarnessModel, tokenizer: Tokenizer, name: str, request: HarnessRequest) -> list[Row]:
    with _calm():
        if catalogue.is_local(name):  # it cuts its documents to the limit by itself, at each of its settings
            tasks = _local(name, request, tokenizer)
            found: Any = evaluate(model, tasks, bootstrap_iters=0)
            return local_rows(found, tasks, request, tokenizer)
        tasks = _foreign(name)
        found = evaluate(model, tasks, limit=request.limit or None, bootstrap_iters=0)
        return foreign_rows(found, tasks)


def _local(name: str, request: HarnessRequest, tokenizer: Tokenizer) -> Any:
    about: Any = {"name": name, "request": request, "tokenizer": tokenizer}
    manager = TaskManager(include_path=catalogue.TASKS, include_defaults=False, metadata=about)
    return manager.load([catalogue.split(name)[0]])


def _foreign(name: str) -> Any:
    path = catalogue.find(name)
    found = _everything().load([name]) if path is None else TaskManager(include_defaults=False).load([str(path)])
    for task in found["tasks"].values():
        if getattr(task, "UNSAFE_CODE", False) or getattr(task, "MULTIMODAL", False):
            raise NotImplementedError("it runs code that a model wrote, or shows pictures or sound")
        task.set_fewshot_seed(FEWSHOT_SEED)
    return found


@functools.lru_cache(maxsize=1)
def _everything() -> TaskManager:
    """All that the harness has; half a minute."""
    return TaskManager()


def _reason(error: Exception) -> str:
    """Why a task of the harness could not be made, in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError):
        return f"its data could not be fetched: {text}"
    return f"left out: {type(error).__name__}: {text}"


@contextlib.contextmanager
def _calm() -> Iterator[None]:
    """Keeps to themselves the hints and retries of the harness and its data, and to terminals its progress bars."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets", "huggingface_hub")]
    modules: list[Any] = [lm_eval.api.task, lm_eval.api.model]
    levels, bars = [logger.level for logger in loggers], [module.tqdm for module in modules]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    for module in modules:
        module.tqdm = functools.partial(tqdm, leave=False, disable=None)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for module, bar in zip(modules, bars, strict=True):
            module.tqdm = bar
