"""The picture that judges a memory: what it recalls, over the bytes of its state."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from memjax.evaluation import canvas

Row = Mapping[str, Any]
COLUMNS = 3  # panels in a row of the figure


def draw_frontier(rows: Sequence[Row], *, title: str, settings: Mapping[str, str] | None = None):
    """A matplotlib `Figure` of accuracy over state bytes, a panel a setting of the task.

    Args:
        rows: one a run: "line" (the architecture), "state_bytes", and an accuracy under the name of each setting; a run
            that lacks a setting is missing from its panel. Runs of a line that have the same state are seeds of each
            other, but for those that differ in their "variant".
        title: of the figure.
        settings: {name of a setting: title of its panel}; None: every "length/pairs" that a row has.

    A line runs through the means of the runs that have the same state, bars show their least and their greatest. Of
    several variants with the same state it takes the best mean, the others are small dots.
    """
    if settings is None:
        found = dict.fromkeys(column for row in rows for column in row if "/" in column)
        settings = {column: f"length/pairs {column}" for column in found}
    lines = list(dict.fromkeys(row["line"] for row in rows))
    with canvas.style():
        columns = canvas.columns_of(len(settings), COLUMNS)
        figure, panels = canvas.new_figure(max(1, -(-len(settings) // columns)), columns)
        for panel in panels.flat[len(settings) :]:
            panel.set_visible(False)
        for panel, setting in zip(panels.flat, settings, strict=False):
            for number, line in enumerate(lines):
                mine = [row for row in rows if row["line"] == line and setting in row]
                _draw_line(panel, mine, setting, canvas.plain(line), canvas.look(number))
            canvas.bytes_axis(panel.xaxis, [row["state_bytes"] for row in rows])
            panel.set_xlabel("recurrent state of one sequence")
            panel.set_ylim(-0.03, 1.05)
            panel.set_ylabel("accuracy (share of scored answers)")
            panel.set_title(canvas.plain(settings[setting]))
        if len(settings) > 1:
            canvas.shared_legend(figure, panels.flat[: len(settings)])
        else:
            canvas.legends(figure, panels.flat[: len(settings)], inside=10)
        figure.suptitle(canvas.plain(title), fontsize=12)
    return figure


def _draw_line(panel, rows: Sequence[Row], setting: str, label: str, look: Mapping[str, str]) -> None:
    if not rows:
        return
    sizes = sorted({row["state_bytes"] for row in rows})
    variants = {size: _variants([row for row in rows if row["state_bytes"] == size], setting) for size in sizes}
    best = [variants[size][0] for size in sizes]
    means = [statistics.mean(runs) for runs in best]
    below = [mean - min(runs) for mean, runs in zip(means, best, strict=True)]
    above = [max(runs) - mean for mean, runs in zip(means, best, strict=True)]
    panel.errorbar(sizes, means, (below, above), **look, markersize=6, linewidth=2, capsize=3, label=label)
    others = [(size, statistics.mean(runs)) for size in sizes for runs in variants[size][1:]]
    if others:
        panel.plot(*zip(*others, strict=True), **look, linestyle="", markersize=3.5, alpha=0.5)


def _variants(rows: Sequence[Row], setting: str) -> list[list[float]]:
    """The accuracies of the seeds of each variant, the variant with the best mean first."""
    found: dict[Any, list[float]] = {}
    for row in rows:
        found.setdefault(row.get("variant"), []).append(row[setting])
    return sorted(found.values(), key=statistics.mean, reverse=True)
