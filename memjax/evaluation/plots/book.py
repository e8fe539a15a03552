"""Which figures a report has: each is drawn where there are rows for it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from memjax.evaluation.plots import recall_emergence
from memjax.evaluation.plots.accuracy_grid import grid
from memjax.evaluation.plots.decoding_cost import decoding
from memjax.evaluation.plots.loss_by_position import positions
from memjax.evaluation.plots.needle_map import needles
from memjax.evaluation.plots.rows import MANY, Report, Row, recall_rows, setting_of
from memjax.evaluation.plots.state_frontier import frontier
from memjax.evaluation.plots.summary import draw


class Picture(NamedTuple):
    """Attributes:
    name: "summary", "frontier", "grid", "needles", "positions", "decoding" or "emergence".
    title: a few words.
    caption: how to read it.
    figure: a matplotlib `Figure`.
    """

    name: str
    title: str
    caption: str
    figure: Any


# {name: (what draws it from reports, or None; title; caption)} beside the summary and what is drawn from logs
FIGURES: dict[str, tuple[Callable[[Sequence[Report]], Any], str, str]] = {
    "frontier": (
        frontier,
        "Recall over state bytes",
        "One curve per architecture, through the mean over the seeds of a configuration; bars reach from the worst "
        "seed to the best. Where several configurations have the same state, the curve takes the best one and small "
        "dots are the others.",
    ),
    "grid": (grid, "Accuracy grid", "Recall over the number of key-value pairs and the length of the sequence."),
    "needles": (
        needles,
        "Needles in a haystack",
        "Share of the scored answers that are right, over the length of the text and the depth of the needle in it.",
    ),
    "positions": (
        positions,
        "Loss by position",
        "What context is worth: the loss falls with the position as long as the memory makes use of what came before.",
    ),
    "decoding": (decoding, "Time and memory over context", "What a token costs after a context of this length."),
}
NAMES = ("summary", *FIGURES, "emergence")


def pictures(reports: Sequence[Report], curves: Sequence[Sequence[Row]] = ()) -> list[Picture]:
    """The figures of one report or of several together, in the order in which a page shows them.

    Args:
        reports: as `memjax.evaluation.evaluate_run` returns them.
        curves: for each report, the rows of its run's `metrics.jsonl`.
    """
    caption = "Everything measured on recall, a row of panels a task, and the loss of what has one. Dotted: guessing."
    if len(reports) > MANY:
        caption += " Seeds of one configuration are one line, their mean."
    found = [Picture("summary", "All settings", caption, draw(reports, curves))]
    for name, (paint, title, words) in FIGURES.items():
        figure = paint(reports)
        if figure is not None:
            # the frontier of several runs is what one looks for first
            found.insert(0 if name == "frontier" else len(found), Picture(name, title, words, figure))
    return [*found, *_emergence(reports, curves)]


def _emergence(reports: Sequence[Report], curves: Sequence[Sequence[Row]]) -> list[Picture]:
    """The figure of what was logged, where a run logged it more than once."""
    logs = [
        recall_emergence.logged(report["run"], _chances(report), rows)
        for report, rows in zip(reports, curves, strict=False)
    ]
    logs = [log for log in logs if any(len(curve) > 1 for curve in log.curves.values())]
    if not logs:
        return []
    caption = (
        "Accuracies logged while training; the dot, and the step in the legend, is the first one at least half-way "
        "between chance and no mistake."
    )
    return [Picture("emergence", "When recall emerges", caption, recall_emergence.draw_logs(logs))]


def _chances(report: Report) -> dict[str, float]:
    """{setting as the log names it: expected accuracy of guessing} of what was measured."""
    rows = [row for row in recall_rows(report) if row.get("chance") is not None]
    return {f"{r['task']}/" + ",".join(f"{axis}={value}" for axis, value in setting_of(r)): r["chance"] for r in rows}
