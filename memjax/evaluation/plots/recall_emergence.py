"""When recall emerges: the accuracies that a run logged while it was trained, over its steps."""

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from memjax import tasks
from memjax.evaluation import canvas
from memjax.evaluation.evaluators import NEAREST, label, task_suite
from memjax.evaluation.plots.rows import MANY, Number
from memjax.evaluation.recall import chance
from memjax.evaluation.runs import load_config, read_metrics

COLUMNS = 3
PANELS = 24  # of several runs; more would be too small to read
_KEY = re.compile(rf"eval/(.+)/(?:accuracy|{NEAREST})")

KNOWN = tasks.TASKS | tasks.CONTINUOUS

Curve = list[tuple[int, Number]]  # (step, accuracy)


class Log(NamedTuple):
    """Attributes:
    run: its name.
    curves: {setting of a task, as in "mqar/pairs=4,length=64": its accuracies}.
    chances: {setting: expected accuracy of guessing}, of those of which it is known.
    """

    run: str
    curves: Mapping[str, Curve]
    chances: Mapping[str, float]


def emergence(run_dirs: str | Path | Sequence[str | Path]):
    """The accuracy of every recall setting that a run logged, over its steps; a matplotlib `Figure`.

    Of one run a panel a task with a line a setting; of several runs a panel a setting with a line a run. The legend
    says at which logged step an accuracy first was half-way between chance and 1, and a dot marks it. As the last
    expression of a notebook's cell the figure shows itself.

    Args:
        run_dirs: directory of a finished or running run, or several: metrics.jsonl and config.json are read.

    Raises FileNotFoundError where there is no such run, ValueError where none of them logged the recall of a task.
    """
    directories = [run_dirs] if isinstance(run_dirs, str | Path) else list(run_dirs)
    logs = [read_log(directory) for directory in directories]
    if not any(log.curves for log in logs):
        raise ValueError(f"emergence: {', '.join(map(str, directories))} logged no accuracy of a task")
    return draw_logs(logs)


def read_log(run_dir: str | Path) -> Log:
    """What `emergence` draws of a run; null is left out."""
    suite = task_suite(load_config(run_dir))
    chances = {label(task): chance(task) for task in suite if task.vocab_size or hasattr(tasks.of(task)[1], "chance")}
    return logged(Path(run_dir).resolve().name, chances, read_metrics(run_dir))


def logged(run: str, chances: Mapping[str, float], rows: Sequence[Mapping[str, Any]]) -> Log:
    """As `read_log`, of metrics that were read already."""
    curves: dict[str, Curve] = {}
    for row in rows:
        for key, value in row.items():
            match = _KEY.fullmatch(key)
            if match is not None and match[1].partition("/")[0] in KNOWN and value is not None:
                curves.setdefault(match[1], []).append((row["step"], value))
    return Log(run, curves, chances)


def draw_logs(logs: Sequence[Log]):
    """The figure of `emergence`."""
    found = _by_task(logs[0]) if len(logs) == 1 else _by_setting(logs)
    panels_of = dict(itertools.islice(found.items(), PANELS))
    with canvas.style():
        columns = canvas.columns_of(len(panels_of), COLUMNS)
        figure, panels = canvas.new_figure(-(-len(panels_of) // columns), columns)
        for panel in panels.flat[len(panels_of) :]:
            panel.set_visible(False)
        for panel, (title, lines) in zip(panels.flat, panels_of.items(), strict=False):
            _panel(panel, lines, named=len(logs) > MANY)
            panel.set_title(canvas.plain(title))
        if len(logs) > MANY:
            canvas.shared_legend(figure, panels.flat[: len(panels_of)])
        else:
            canvas.legends(figure, panels.flat[: len(panels_of)], inside=8)
        name = logs[0].run if len(logs) == 1 else f"{len(logs)} runs"
        more = f" (the first {PANELS} of {len(found)} settings)" if len(found) > PANELS else ""
        figure.suptitle(canvas.plain(f"{name}: when recall emerges{more}"), fontsize=13)
    return figure


Line = tuple[str, Curve, float | None]  # name, accuracies, chance


def _by_task(log: Log) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {}
    for setting, curve in log.curves.items():
        task, _, axes = setting.partition("/")
        found.setdefault(task, []).append((_words(axes), curve, log.chances.get(setting)))
    return found


def _by_setting(logs: Sequence[Log]) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {}
    for log in logs:
        for setting, curve in log.curves.items():
            task, _, axes = setting.partition("/")
            found.setdefault(f"{task}: {_words(axes)}", []).append((log.run, curve, log.chances.get(setting)))
    return found


def _words(axes: str) -> str:
    return axes.replace("=", " ").replace(",", ", ").replace("_", " ")


def _panel(panel, lines: Sequence[Line], *, named: bool) -> None:
    """`named`: the legend, which panels share, says the names of the lines only."""
    for number, (name, curve, guess) in enumerate(lines):
        look = canvas.look(number)
        place = crossing(curve, guess or 0.0)
        when = f"step {place[0]:,}" if place else f"not by step {curve[-1][0]:,}"
        entry = canvas.plain(name if named else f"{name} ({when})")
        plain = {"color": look["color"]} if len(curve) > 1 else look
        panel.plot(*zip(*curve, strict=True), **plain, linewidth=1.8, label=entry)
        if place:
            panel.plot(*place, **look, markersize=7, zorder=3)
    levels = {guess for _, _, guess in lines if guess is not None}
    for index, level in enumerate(sorted(levels)):
        panel.axhline(level, color="0.45", linestyle=":", linewidth=1.2, label="_" if index else "chance")
    panel.set_ylim(-0.03, 1.05)
    panel.set_xlabel("optimizer step")
    panel.set_ylabel("accuracy (share of scored answers)")


def crossing(curve: Curve, guess: float) -> tuple[int, Number] | None:
    """The first logged point that is at least half-way between guessing and no mistake; None where there is none."""
    return next(((step, accuracy) for step, accuracy in curve if accuracy >= (1 + guess) / 2), None)
