"""The accuracy grid: recall over the number of key-value pairs and the length, a panel a run."""

from collections.abc import Sequence

from memjax.evaluation.plots.heatmap import Map, draw_maps
from memjax.evaluation.plots.rows import (
    Number,
    Report,
    Setting,
    axes_of,
    mean_of_seeds,
    recall_rows,
    recall_tasks,
    setting_of,
    words,
)

AXES = ("length", "pairs")


def grid(reports: Sequence[Report]):
    """A matplotlib `Figure` of the tasks whose rows differ in "pairs" and in "length"; None where there is none.

    Settings that differ in something else (updates of MQAR) have a panel each.
    """
    shown = mean_of_seeds(reports)
    found = [(r["run"], task, *part) for task in recall_tasks(shown) for r in shown for part in _grids(r, task)]
    tasks = {task for _, task, _, _ in found}
    maps = []
    for run, task, other, cells in found:
        first, second = run if len(shown) > 1 else "", task if len(tasks) > 1 or len(shown) == 1 else ""
        maps.append(Map("\n".join(filter(None, [first, ", ".join(filter(None, [second, words(other)]))])), cells))
    return draw_maps(
        maps, title="Recall over pairs and length", across="sequence length (tokens)", upwards="key-value pairs"
    )


def _grids(report: Report, task: str) -> list[tuple[Setting, dict[tuple[Number, Number], Number]]]:
    """(the other axes, {(length, pairs): accuracy}) of the rows of a task that differ in both."""
    rows = recall_rows(report, task)
    if not rows or not set(AXES) <= set(axes_of(rows)):
        return []
    grids: dict[Setting, dict[tuple[Number, Number], Number]] = {}
    for row in rows:
        grids.setdefault(setting_of(row, *AXES), {})[row["length"], row["pairs"]] = row["accuracy"]
    return [
        (other, cells)
        for other, cells in grids.items()
        if all(len(set(places)) > 1 for places in zip(*cells, strict=True))
    ]
