"""Recall over state bytes of several runs, one curve per architecture: the frontier."""

from collections.abc import Sequence
from typing import Any

from memjax.evaluation.frontiers import draw_frontier
from memjax.evaluation.plots.rows import (
    Report,
    Setting,
    architecture,
    recall_rows,
    recall_tasks,
    setting_of,
    variant,
    words,
)

SETTINGS = 8  # more settings of a task have no panels of their own, only the mean over them
PANELS = 24  # more panels of all tasks, and none has panels of its settings


def frontier(reports: Sequence[Report]):
    """A matplotlib `Figure`; None where fewer than two sizes of state were measured on recall.

    For every task a panel of the mean over the settings that all runs share, and one for each setting. Seeds of one
    configuration are averaged, their spread is a bar; of several configurations (learning rates, say) with the same
    state the curve takes the best, the others are small dots.
    """
    measured = [report for report in reports if report["state_bytes"] > 0 and recall_rows(report)]
    if len({report["state_bytes"] for report in measured}) < 2:
        return None
    rows = [_row(report) for report in measured]
    panels = [_panels(rows, measured, task) for task in recall_tasks(measured)]
    settings = {key: title for task in panels for key, title in task.items()}
    if len(settings) > PANELS:
        settings = {key: title for task in panels for key, title in list(task.items())[:1]}
    return draw_frontier(rows, title="Recall over the bytes of the recurrent state", settings=settings)


def _row(report: Report) -> dict[str, Any]:
    scores = {_key(row["task"], setting_of(row)): row["accuracy"] for row in recall_rows(report)}
    return {
        "line": architecture(report),
        "state_bytes": report["state_bytes"],
        "variant": variant(report),
        **scores,
    }


def _panels(rows: Sequence[dict[str, Any]], reports: Sequence[Report], task: str) -> dict[str, str]:
    """The panels of a task, that of the mean first; puts the mean over the shared settings into each of `rows`."""
    settings = dict.fromkeys(setting_of(row) for report in reports for row in recall_rows(report, task))
    having = [row for row in rows if any(_key(task, setting) in row for setting in settings)]
    shared = [_key(task, setting) for setting in settings if all(_key(task, setting) in row for row in having)]
    panels = {_key(task, setting): f"{task}: {words(setting)}" for setting in settings}
    if len(settings) == 1:
        return panels
    mean = f"mean of {task}"
    for row in having if shared else ():
        row[mean] = sum(row[key] for key in shared) / len(shared)
    own = panels if len(settings) <= SETTINGS else {}
    return {**({mean: f"{task}: mean of {len(shared)} settings"} if len(shared) > 1 else {}), **own}


def _key(task: str, setting: Setting) -> str:
    return f"{task}/{setting}"
