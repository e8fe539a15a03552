"""The report of a run, and of several together: report.json for machines, report.html and pictures for people."""

import contextlib
import datetime
import json
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import jax
from flax import nnx

import memjax
from memjax import config as experiment
from memjax.config import ConfigError, TrainConfig
from memjax.data import StoredData
from memjax.evaluation import measurements, plots
from memjax.evaluation.harness.request import HarnessRequest, as_request
from memjax.evaluation.harness.request import check as check_harness
from memjax.evaluation.page import page
from memjax.evaluation.runs import load_config, load_step, read_metrics
from memjax.evaluation.text import continue_text
from memjax.models import LM
from memjax.training.skeleton import Model

Report = dict[str, Any]


def evaluate_run(
    run_dir: str | Path,
    *,
    names: Sequence[str] | None = None,
    prompt: str | None = None,
    harness: HarnessRequest | Sequence[str] | None = None,
    say: Callable[[str], None] = print,
) -> Report:
    """Evaluates the newest intact checkpoint of a run and writes the report into its directory.

    That is report.json, report.html, report.png and other pictures; see `write_report`.

    Args:
        run_dir: the output directory of a training run.
        names: which tasks; None takes those that the run asks for. A task that the run does not ask for is taken at
            its default setting, with the vocabulary of the model. "text" is the evaluation split of a text run,
            "digits" the held-out pictures of a run on them, "extrapolation" a text run's loss in longer contexts than
            it was trained on, "decoding" time and memory of any model of tokens over the length of its context,
            "needle_map" needles by depth and length of a run on bytes.
        prompt: text to be continued by a text run; the continuation is the report's "continuation".
        harness: which tasks of lm-evaluation-harness, by name or with settings, for a run on text; without `names`
            nothing else is evaluated.
        say: where progress goes, a line at a time.

    Returns:
        The report: "run", "step", "parameters", "state_bytes" (one sequence), "results" (a row per task and setting),
        "config", "versions", "date"; with `harness` also "skipped", {task: why it could not be evaluated}.

    Raises FileNotFoundError or ValueError, in one line, where there is no run, no checkpoint, or no such task.
    """
    suite = check_request(run_dir, names=names, prompt=prompt, harness=harness)
    model, config, step = load_step(run_dir)
    report = describe_run(run_dir, model, config, step)
    say(
        f"{run_dir}: step {step:,}, {report['parameters']:,} parameters, "
        f"state of {report['state_bytes']:,} bytes per sequence"
    )
    report["results"] = measurements.measure(model, config, suite, say)
    if (request := as_request(harness)).harness:
        from memjax.evaluation.harness.running import add_rows  # imports lm-evaluation-harness, an extra

        add_rows(report, cast(LM, model), config, request, say)
    if prompt is not None:
        report["prompt"], report["continuation"] = prompt, continue_text(cast(LM, model), config, prompt)
    write_report([report], run_dir, [run_dir])
    return report


def check_request(
    run_dir: str | Path,
    *,
    names: Sequence[str] | None = None,
    prompt: str | None = None,
    harness: HarnessRequest | Sequence[str] | None = None,
) -> tuple[measurements.Setting, ...]:
    """What `evaluate_run` would evaluate beside the harness, found without the model; see `measurements.settings`.

    Raises as `evaluate_run`, and for `harness` as `memjax.evaluation.harness.request.check`.
    """
    config, request = load_config(run_dir), as_request(harness)
    if prompt is not None and not isinstance(config.data, StoredData):
        raise ConfigError(f"{run_dir}: --prompt needs a run that was trained on text; this one was not")
    check_harness(run_dir, config, request)
    if names is None and request.harness:
        return ()
    return measurements.settings(run_dir, config, names)


def describe_run(run_dir: str | Path, model: Model, config: TrainConfig, step: int) -> Report:
    """The head of a report: what was evaluated, when, and with which versions."""
    return {
        "run": Path(run_dir).resolve().name,
        "step": step,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model))),
        "state_bytes": model.state_bytes(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {
            "memjax": memjax.__version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("jax", "flax", "numpy")},
        },
        "device": jax.devices()[0].device_kind,
        "results": [],
        "config": experiment.to_json(config),
    }


def join_reports(run_dirs: Sequence[str | Path], reports: Sequence[Report], directory: str | Path) -> Report:
    """Writes the joint report of several runs into `directory` (made if need be): every row names its run."""
    names = _names(run_dirs)
    reports = [{**report, "run": name} for name, report in zip(names, reports, strict=True)]
    write_report(reports, directory, run_dirs)
    return joint(reports)


def joint_directory(run_dirs: Sequence[str | Path], asked: str | None) -> Path | None:
    """Where the joint report goes: `asked`, or the folder that holds all of several runs; None for a single run.

    Raises ConfigError where that is the directory of one of several runs, whose own report it would overwrite.
    """
    if asked is None and len(run_dirs) == 1:
        return None
    paths = [Path(run).resolve() for run in run_dirs]
    directory = Path(asked) if asked is not None else Path(os.path.relpath(os.path.commonpath(paths)))
    if len(paths) > 1 and directory.resolve() in paths:
        raise ConfigError(f"the joint report would overwrite that of the run {directory}; give another --output-dir")
    return directory


def joint(reports: Sequence[Report]) -> Report:
    """One dictionary of several reports: "runs" as they are, "results" of all of them, each row with its run."""
    keys = ("run", "state_bytes", "parameters", "step")
    rows = [{**{key: report[key] for key in keys}, **row} for report in reports for row in report["results"]]
    return {"results": rows, "runs": [{**report, "results": len(report["results"])} for report in reports]}


def write_report(reports: Sequence[Report], directory: str | Path, run_dirs: Sequence[str | Path]) -> None:
    """Writes the report into `directory`, each file at once: a reader sees the old one or the new one.

    report.json, the summary report.png, a report_<name>.png for each other figure that the rows allow (one that they no
    longer allow is removed), and report.html, which holds all of them.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    content = reports[0] if len(reports) == 1 else joint(reports)
    pictures = plots.pictures(reports, [read_metrics(run) for run in run_dirs])
    html = page(reports, pictures, content=content, links=_links(reports, directory, run_dirs))
    with _replacing(directory / "report.json") as path:
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    drawn = {picture.name: picture.figure for picture in pictures}
    for name in plots.NAMES:
        file = directory / ("report.png" if name == "summary" else f"report_{name}.png")
        if name in drawn:
            with _replacing(file) as path:
                plots.emit(drawn[name], path)
        else:
            file.unlink(missing_ok=True)
    with _replacing(directory / "report.html") as path:
        path.write_text(html, encoding="utf-8")


def _links(reports: Sequence[Report], directory: Path, run_dirs: Sequence[str | Path]) -> dict[str, str]:
    """Addresses of the runs' own pages, from the joint one; not its own."""
    pages = {report["run"]: Path(run) / "report.html" for report, run in zip(reports, run_dirs, strict=True)}
    here = directory.resolve()
    found = {name: file.resolve() for name, file in pages.items() if file.is_file() and file.resolve().parent != here}
    return {name: quote(Path(os.path.relpath(file, here)).as_posix()) for name, file in found.items()}


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place once it is written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _names(run_dirs: Sequence[str | Path]) -> list[str]:
    """Names that tell the runs apart: the last folder of each path, or as much of the path as differs."""
    paths = [Path(run).resolve() for run in run_dirs]
    if len({path.name for path in paths}) == len(paths):
        return [path.name for path in paths]
    shared = os.path.commonpath(paths)
    return [os.path.relpath(path, shared) for path in paths]
