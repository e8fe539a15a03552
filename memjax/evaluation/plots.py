"""The pictures of a report, drawn from report dictionaries alone, so that they can be drawn again without the model.

A recall report becomes one row of panels per task: one panel for every axis of the task (`describe(config)`) that
the suite varies, accuracy from 0 to 1 upwards, the chance level dotted. A report on text or on real-valued rows becomes
its loss curves.
Several reports share the axes, one colour each. `hippo_history`, `routing` and `usage` need no report: they draw what a
memory holds, which memory a token goes to, and how much of their tables a run's memory layers read.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from memjax.evaluation import canvas
from memjax.evaluation.figures import hippo_history as hippo_history
from memjax.evaluation.figures import routing as routing
from memjax.evaluation.usage_curves import usage as usage

Report = Mapping[str, Any]
Row = Mapping[str, Any]

STYLES = ("-", "--", "-.", (0, (4, 1, 1, 1, 1, 1)))
HEADLINES = {"bits_per_byte": "bits per byte", "mse": "mean squared error"}
UNITS = {"length": "sequence length (tokens)", "pairs": "key-value pairs", "vocab_size": "vocabulary (tokens)"}


def state_size(size: int) -> str:
    """A number of bytes for a title: `512 B`, `16.4 KiB`, `2.0 MiB`."""
    if size < 1024:
        return f"{size} B"
    power = min((size.bit_length() - 1) // 10, 3)
    return f"{size / 1024**power:.1f} {('KiB', 'MiB', 'GiB')[power - 1]}"


def axes_of(rows: Sequence[Row]) -> list[str]:
    """The axes, of those that are numbers, along which these results of one task differ, in the order of `describe`."""
    names = [name for name in rows[0]["axes"] if all(_number(row.get(name)) for row in rows)]
    return [name for name in names if len({row[name] for row in rows}) > 1]


def lines_of(rows: Sequence[Row], axis: str) -> dict[tuple, list[Row]]:
    """The results of one run and task that differ along `axis` only, sorted by it: {other axes: two rows or more}."""
    groups: dict[tuple, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row[axis]):
        fixed = tuple((name, row[name]) for name in row["axes"] if name != axis)
        groups.setdefault(fixed, []).append(row)
    return {fixed: group for fixed, group in groups.items() if len(group) > 1}


def draw(reports: Sequence[Report], curves: Sequence[Sequence[Row]] = ()):
    """The figure of one report, or of several on shared axes; returns a matplotlib `Figure`.

    Args:
        reports: as `memjax.evaluation.evaluate_run` returns them.
        curves: for each report, the rows of its run's `metrics.jsonl`; not read for recall.
    """
    lines = [_recall_panels(reports, task) for task in _tasks(reports)]
    texts = [(report, rows) for report, rows in zip(reports, curves, strict=False) if _headline(report)]
    if texts:
        lines.append([lambda panel: _loss_panel(panel, texts)])
    with canvas.style():
        figure, panels = canvas.new_figure(max(1, len(lines)), max(map(len, lines), default=1))
        for line, row in itertools.zip_longest(lines, panels, fillvalue=()):
            for paint, panel in itertools.zip_longest(line, row):
                if paint is None:
                    panel.set_visible(False)
                else:
                    paint(panel)
        figure.suptitle(_title(reports), fontsize=13)
    return figure


def emit(figure, file) -> None:
    """Writes a figure as PNG into a binary file or a path, at a size that reads well on a screen."""
    figure.savefig(file, format="png", dpi=130)


def _tasks(reports: Sequence[Report]) -> list[str]:
    rows = [row for report in reports for row in report["results"] if "accuracy" in row and "axes" in row]
    return list(dict.fromkeys(row["task"] for row in rows if not row["task"].startswith("harness/")))


def _rows(reports: Sequence[Report], task: str) -> list[Row]:
    return [row for report in reports for row in report["results"] if row["task"] == task]


def _headline(report: Report) -> tuple[str, float] | None:
    """Name and value of the number of a report that is no accuracy; None where there is none."""
    whole = [row for row in report["results"] if "axes" not in row]  # of the run, at no setting
    found = [(name, row[name]) for row in whole for name in HEADLINES if name in row]
    return found[0] if found else None


def _recall_panels(reports: Sequence[Report], task: str) -> list[Callable[[Any], None]]:
    """What to paint in the row of one task: a panel per varied axis, or a single bar chart."""
    axes = axes_of(_rows(reports, task))
    if not axes:
        return [lambda panel: _bar_panel(panel, reports, task)]
    return [functools.partial(_accuracy_panel, reports=reports, task=task, axis=axis) for axis in axes]


def _accuracy_panel(panel, reports: Sequence[Report], task: str, axis: str) -> None:
    for colour, report in zip(itertools.cycle(canvas.COLOURS), reports, strict=False):
        rows = _rows([report], task)
        groups = lines_of(rows, axis)
        for style, (fixed, group) in zip(itertools.cycle(STYLES), groups.items(), strict=False):
            _plot(panel, group, axis, colour, style, _label(reports, report, fixed))
        drawn = [row for name in axes_of(rows) for line in lines_of(rows, name).values() for row in line]
        alone = [row for row in rows if row not in drawn]
        if alone:
            _plot(panel, alone, axis, colour, ":", _label(reports, report, None))
            for row in alone:
                others = _setting([(name, row[name]) for name in row["axes"] if name != axis])
                where = (row[axis], row["accuracy"])
                behind = {"boxstyle": "square,pad=0.1", "facecolor": "white", "alpha": 0.8, "linewidth": 0}
                panel.annotate(
                    others, where, (0, 9), textcoords="offset points", ha="center", fontsize=8.5, bbox=behind
                )
    _chance(panel, _rows(reports, task), axis)
    _log2_axis(panel, sorted({row[axis] for row in _rows(reports, task)}))
    panel.set_xlabel(UNITS.get(axis, axis.replace("_", " ")))
    panel.set_ylabel("accuracy (share of scored answers)")
    panel.set_ylim(-0.03, 1.05)
    panel.set_title(f"{task}: accuracy over {axis.replace('_', ' ')}")
    panel.legend(loc="best")


def _plot(panel, rows: Sequence[Row], axis: str, colour: str, style, label: str) -> None:
    rows = sorted(rows, key=lambda row: row[axis])
    points = [row[axis] for row in rows], [row["accuracy"] for row in rows]
    panel.plot(*points, color=colour, linestyle=style, marker="o", markersize=6, linewidth=2, label=label)


def _chance(panel, rows: Sequence[Row], axis: str) -> None:
    """The accuracy of guessing, which may differ from point to point."""
    levels = sorted({(row[axis], row["chance"]) for row in rows if row.get("chance") is not None})
    if levels:
        panel.plot(*zip(*levels, strict=True), color="0.45", linestyle=":", linewidth=1.5, label="chance")


def _bar_panel(panel, reports: Sequence[Report], task: str) -> None:
    """A task that was evaluated at one setting: one bar per run."""
    rows = [(report["run"], row) for report in reports for row in _rows([report], task)]
    colours = [canvas.COLOURS[i % len(canvas.COLOURS)] for i in range(len(rows))]
    panel.bar(range(len(rows)), [row["accuracy"] for _, row in rows], color=colours, width=0.5)
    for place, (_, row) in enumerate(rows):
        panel.annotate(f"{row['accuracy']:.3f}", (place, row["accuracy"]), ha="center", va="bottom")
    chances = [row["chance"] for _, row in rows if row.get("chance") is not None]
    if chances:
        panel.axhline(min(chances), color="0.45", linestyle=":", linewidth=1.5, label="chance")
        panel.legend(loc="best")
    panel.set_xticks(range(len(rows)), [name for name, _ in rows])
    panel.set_xlim(-0.8, len(rows) - 0.2)
    panel.set_ylim(0, 1.1)
    panel.set_ylabel("accuracy (share of scored answers)")
    panel.set_title(f"{task}: " + ", ".join(f"{name} {rows[0][1][name]}" for name in rows[0][1]["axes"]))


def _log2_axis(panel, values: Sequence[int | float]) -> None:
    """Powers of two evenly spaced, ticks at the values that were measured and nowhere else."""
    from matplotlib.ticker import NullLocator

    if min(values) > 0:
        panel.set_xscale("log", base=2)
    panel.set_xticks(values, [f"{value:g}" for value in values])
    panel.xaxis.set_minor_locator(NullLocator())


def _setting(fixed: Sequence[tuple[str, Any]]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in fixed)


def _label(reports: Sequence[Report], report: Report, fixed: tuple | None) -> str:
    """A legend's entry; `fixed` None: each point names its own setting."""
    setting = "setting at the point" if fixed is None else _setting(fixed)
    if len(reports) == 1:
        return setting
    return f"{report['run']} ({state_size(report['state_bytes'])}){': ' + setting if setting else ''}"


def _title(reports: Sequence[Report]) -> str:
    if len(reports) > 1:
        names = ", ".join(report["run"] for report in reports[:4])
        return f"{len(reports)} runs: {names}{', ...' if len(reports) > 4 else ''}"
    report = reports[0]
    size = f"{report['state_bytes']:,} bytes"
    return (
        f"{report['run']}: recurrent state of {size} per sequence\n"
        f"{report['parameters']:,} parameters, step {report['step']:,}"
    )


def _loss_panel(panel, texts: Sequence[tuple[Report, Sequence[Row]]]) -> None:
    """Training and validation loss over steps, one colour per run."""
    shown = []
    for colour, (report, rows) in zip(itertools.cycle(canvas.COLOURS), texts, strict=False):
        name = f"{report['run']}: " if len(texts) > 1 else ""
        steps, losses = _series(rows, "loss")
        smooth = _smooth(losses)
        panel.plot(steps, losses, color=colour, alpha=0.25, linewidth=1)
        panel.plot(steps, smooth, color=colour, linewidth=1.8, label=f"{name}training")
        steps, validation = _series(rows, "eval/mse" if _is_squared(report) else "eval/loss")
        panel.plot(steps, validation, color=colour, linestyle="--", marker="o", markersize=4, label=f"{name}validation")
        shown += smooth[len(smooth) // 20 :] + validation
    if shown:  # the first steps fall from far above and would flatten the rest
        margin = 0.05 * (max(shown) - min(shown)) + 0.05
        panel.set_ylim(min(shown) - margin, max(shown) + margin)
    panel.set_xlabel("optimizer step")
    squared = {_is_squared(report) for report, _ in texts}
    panel.set_ylabel(
        "loss" if len(squared) > 1 else "mean squared error" if True in squared else "loss (nats per token)"
    )
    panel.set_title("validation: " + ", ".join(_score(report, len(texts) > 1) for report, _ in texts))
    panel.legend(loc="best")


def _score(report: Report, named: bool) -> str:
    name, value = _headline(report) or ("", 0.0)
    return f"{report['run']} {value:.3g}" if named else f"{value:.3f} {HEADLINES[name]}"


def _is_squared(report: Report) -> bool:
    return (_headline(report) or ("",))[0] == "mse"


def _series(rows: Sequence[Row], name: str) -> tuple[list[int], list[float]]:
    found = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    return [step for step, _ in found], [value for _, value in found]


def _smooth(values: Sequence[int | float]) -> list[float]:
    """An exponential mean over about a fortieth of the curve, without the pull of its start."""
    keep = max(0.0, 1 - 40 / max(len(values), 1))
    total = weight = 0.0
    means = []
    for value in values:
        total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        means.append(total / weight)
    return means


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
