"""The picture that every report has: recall along each axis of each task, or the loss of a run that has no recall.

A recall report becomes one row of panels per task: one panel for every axis of the task (`describe(config)`) that
the suite varies, accuracy from 0 to 1 upwards, the chance level dotted. A report on text or on real-valued rows becomes
its loss curves. Several reports share the axes, one colour each.
"""

import functools
import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from memjax.evaluation import canvas
from memjax.evaluation.plots import losses
from memjax.evaluation.plots.rows import (
    Number,
    Report,
    Row,
    Setting,
    axes_of,
    lines_of,
    mean_of_seeds,
    recall_rows,
    recall_tasks,
    setting_of,
    state_size,
    words,
)

ALONE = "setting at the point"  # of results that share no line: each point names its own
STYLES = ("-", "--", "-.", (0, (4, 1, 1, 1, 1, 1)))
UNITS = {
    "length": "sequence length (tokens)",
    "pairs": "key-value pairs",
    "vocab_size": "vocabulary (tokens)",
    "depth": "depth of the needle (share of the text)",
}


def draw(reports: Sequence[Report], curves: Sequence[Sequence[Row]] = ()):
    """The figure of one report, or of several on shared axes; returns a matplotlib `Figure`.

    Args:
        reports: as `memjax.evaluation.evaluate_run` returns them. Of more than `rows.MANY` those that are seeds of one
            configuration become one line, their mean.
        curves: for each report, the rows of its run's `metrics.jsonl`; not read for recall.
    """
    texts = [(report, rows) for report, rows in zip(reports, curves, strict=False) if losses.headline(report)]
    shown = mean_of_seeds(reports)
    lines = [_recall_panels(shown, task) for task in recall_tasks(shown)]
    if texts:
        lines.append([lambda panel: losses.loss_panel(panel, texts)])
    with canvas.style():
        figure, panels = canvas.new_figure(max(1, len(lines)), max(map(len, lines), default=1))
        painted = []
        for line, row in itertools.zip_longest(lines, panels, fillvalue=()):
            for paint, panel in itertools.zip_longest(line, row):
                if paint is None:
                    panel.set_visible(False)
                else:
                    paint(panel)
                    painted.append(panel)
        canvas.legends(figure, painted)
        if _crowded(shown):
            runs = [canvas.key(panels[0, 0], _run(report), **canvas.look(i)) for i, report in enumerate(shown)]
            canvas.legend_below(figure, {handle.get_label(): handle for handle in runs})
        figure.suptitle(_title(reports), fontsize=13)
    return figure


def _rows(reports: Sequence[Report], task: str) -> list[Row]:
    return [row for report in reports for row in recall_rows(report, task)]


def _recall_panels(reports: Sequence[Report], task: str) -> list[Callable[[Any], None]]:
    """What to paint in the row of one task: a panel per varied axis, or a single bar chart."""
    axes = axes_of(_rows(reports, task))
    if not axes:
        return [lambda panel: _bar_panel(panel, reports, task)]
    return [functools.partial(_accuracy_panel, reports=reports, task=task, axis=axis) for axis in axes]


def _accuracy_panel(panel, reports: Sequence[Report], task: str, axis: str) -> None:
    drawn = [(report, _lines(recall_rows(report, task), axis)) for report in reports]
    names = list(dict.fromkeys(name for _, lines in drawn for name in lines))
    styles = dict(zip(names, itertools.cycle(STYLES), strict=False)) | {ALONE: ":"}
    crowded = _crowded(reports)  # then a line has no entry of its own: the figure names colours, a panel line styles
    for number, (report, lines) in enumerate(drawn):
        for name, rows in lines.items():
            points = [row[axis] for row in rows], [row["accuracy"] for row in rows]
            label = "_" if crowded else _label(reports, report, name)
            look = {**canvas.look(number), "linestyle": styles[name], "markersize": 6, "linewidth": 2}
            panel.plot(*points, **look, label=label)
    for name in names if crowded and names != [""] else ():
        canvas.key(panel, name, color="0.45", linestyle=styles[name])
    _name_settings(panel, reports, task, axis)
    rows = _rows(reports, task)
    _chance(panel, rows, axis)
    _log2_axis(panel, sorted({row[axis] for row in rows}))
    panel.set_xlabel(UNITS.get(axis, axis.replace("_", " ")))
    panel.set_ylabel("accuracy (share of scored answers)")
    panel.set_ylim(-0.03, 1.05)
    panel.margins(x=0.08)
    panel.set_title(f"{task}: accuracy over {axis.replace('_', ' ')}")


def _crowded(reports: Sequence[Report]) -> bool:
    """Whether a panel has more lines than entries of a legend that has room inside it."""
    if len(reports) == 1:
        return False
    panels = [(task, axis) for task in recall_tasks(reports) for axis in axes_of(_rows(reports, task))]
    counts = [sum(len(_lines(recall_rows(r, task), axis)) for r in reports) for task, axis in panels]
    return max(counts, default=0) > canvas.INSIDE


def _lines(rows: Sequence[Row], axis: str) -> dict[str, list[Row]]:
    """{what a line shows: its points, by `axis`} of one run and task; more lines than styles become their mean."""
    groups = lines_of(rows, axis)
    if len(groups) <= len(STYLES):
        lines = {words(fixed): group for fixed, group in groups.items()}
    else:
        alike: dict[tuple, list[list[Row]]] = {}  # lines that were measured at the same points
        for group in groups.values():
            alike.setdefault(tuple(row[axis] for row in group), []).append(group)
        lines = {f"mean of {len(same)} settings at {len(at)} points": _mean(same) for at, same in alike.items()}
    alone = sorted(_alone(rows), key=lambda row: row[axis])
    return lines | ({ALONE: alone} if alone else {})


def _mean(lines: Sequence[Sequence[Row]]) -> list[Row]:
    return [
        {**rows[0], "accuracy": statistics.mean(row["accuracy"] for row in rows)} for rows in zip(*lines, strict=True)
    ]


def _name_settings(panel, reports: Sequence[Report], task: str, axis: str) -> None:
    """Settings of points that lie on no line: above each point of one run, above the best of several."""
    places: dict[tuple[Number, Number | None], tuple[Number, dict[str, None]]] = {}
    for report in reports:
        for row in _alone(recall_rows(report, task)):
            place = row[axis], row["accuracy"] if len(reports) == 1 else None
            height, names = places.setdefault(place, (row["accuracy"], {}))
            names = {**names, canvas.plain(words(setting_of(row, axis))): None}
            places[place] = max(height, row["accuracy"]), names
    behind = {"boxstyle": "square,pad=0.1", "facecolor": "white", "alpha": 0.8, "linewidth": 0}
    for (x, _), (y, names) in places.items():
        text = "\n".join(names)
        panel.annotate(text, (x, y), (0, 9), textcoords="offset points", ha="center", fontsize=8.5, bbox=behind)


def _alone(rows: Sequence[Row]) -> list[Row]:
    """The results of one run and task that lie on no line of any panel."""
    drawn = [row for name in (axes_of(rows) if rows else ()) for line in lines_of(rows, name).values() for row in line]
    return [row for row in rows if row not in drawn]


def _chance(panel, rows: Sequence[Row], axis: str) -> None:
    """The accuracy of guessing, which may differ from point to point."""
    levels = sorted({(row[axis], row["chance"]) for row in rows if row.get("chance") is not None})
    if levels:
        panel.plot(*zip(*levels, strict=True), color="0.45", linestyle=":", linewidth=1.5, label="chance")


def _bar_panel(panel, reports: Sequence[Report], task: str) -> None:
    """A task whose settings differ in no number: one bar per run and setting."""
    rows = [(report["run"], row) for report in reports for row in recall_rows(report, task)]
    colours = [canvas.COLOURS[i % len(canvas.COLOURS)] for i in range(len(rows))]
    panel.bar(range(len(rows)), [row["accuracy"] for _, row in rows], color=colours, width=0.5)
    for place, (_, row) in enumerate(rows):
        panel.annotate(f"{row['accuracy']:.3f}", (place, row["accuracy"]), ha="center", va="bottom")
    chances = [row["chance"] for _, row in rows if row.get("chance") is not None]
    if chances:
        panel.axhline(min(chances), color="0.45", linestyle=":", linewidth=1.5, label="chance")
    common, names = _bar_names(rows, named=len(reports) > 1)
    slanted = {"rotation": 30, "ha": "right"} if len(rows) > 4 else {}
    panel.set_xticks(range(len(rows)), names, **slanted)
    panel.grid(False, axis="x")
    panel.set_xlim(-0.8, len(rows) - 0.2)
    panel.set_ylim(0, 1.1)
    panel.set_ylabel("accuracy (share of scored answers)")
    panel.set_title(canvas.plain(f"{task}: {words(common)}" if common else task))


def _bar_names(rows: Sequence[tuple[str, Row]], *, named: bool) -> tuple[Setting, list[str]]:
    """What all bars share, and a name for each: its run, or what its setting differs in, or both."""
    settings = [setting_of(row) for _, row in rows]
    common = tuple(pair for pair in settings[0] if all(pair in other for other in settings))
    own = [", ".join(str(value) for pair in s if pair not in common for value in pair[1:]) for s in settings]
    names = [(run, what) if named or not what else (what,) for (run, _), what in zip(rows, own, strict=True)]
    return common, [canvas.plain("\n".join(filter(None, parts))) for parts in names]


def _log2_axis(panel, values: Sequence[int | float]) -> None:
    """Powers of two evenly spaced, ticks at the values that were measured and nowhere else."""
    from matplotlib.ticker import NullLocator

    if min(values) > 0 and max(values) > 1:  # shares between 0 and 1, such as a depth, stay as they are
        panel.set_xscale("log", base=2)
    panel.set_xticks(values, [f"{value:g}" for value in values])
    panel.xaxis.set_minor_locator(NullLocator())


def _label(reports: Sequence[Report], report: Report, setting: str) -> str:
    if len(reports) == 1:
        return canvas.plain(setting)
    return canvas.plain(f"{_run(report)}{': ' + setting if setting else ''}")


def _run(report: Report) -> str:
    return f"{report['run']} ({state_size(report['state_bytes'])})"


def _title(reports: Sequence[Mapping[str, Any]]) -> str:
    if len(reports) > 1:
        names = ", ".join(report["run"] for report in reports[:4])
        return canvas.plain(f"{len(reports)} runs: {names}{', ...' if len(reports) > 4 else ''}")
    report = reports[0]
    size = f"{report['state_bytes']:,} bytes"
    return canvas.plain(
        f"{report['run']}: recurrent state of {size} per sequence\n"
        f"{report['parameters']:,} parameters, step {report['step']:,}"
    )
