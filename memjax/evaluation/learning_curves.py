"""The picture of facts being learned: the loss of attributes over the steps of several runs."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from memjax.evaluation.canvas import COLOURS, new_figure, style

Row = Mapping[str, Any]


def draw_curves(rows: Sequence[Row], *, title: str):
    """A matplotlib `Figure` of nats per value token over optimizer steps, a panel a population.

    Args:
        rows: one a run: "line" (the model), "panel" (the population), "plateau" (nats of who knows nobody) and "curve",
            a list of [step, nats].
        title: of the figure.

    A line is the mean of the runs of a model; the band reaches from the lowest to the highest.
    """
    panels_of = list(dict.fromkeys(row["panel"] for row in rows))
    lines = list(dict.fromkeys(row["line"] for row in rows))
    with style():
        figure, panels = new_figure(1, max(1, len(panels_of)))
        for panel, name in zip(panels[0], panels_of, strict=False):
            mine = [row for row in rows if row["panel"] == name]
            for colour, line in zip(itertools.cycle(COLOURS), lines, strict=False):
                _draw_line(panel, [row for row in mine if row["line"] == line], line, colour)
            level = statistics.mean(row["plateau"] for row in mine)
            panel.axhline(level, color="0.4", linestyle=":", linewidth=1.2, label="knows nobody")
            panel.set_ylim(bottom=0)
            panel.set_xlabel("optimizer step")
            panel.set_ylabel("loss (nats per value token)")
            panel.set_title(name)
            panel.legend(loc="best")
        figure.suptitle(title, fontsize=12)
    return figure


def _draw_line(panel, rows: Sequence[Row], label: str, colour: str) -> None:
    if not rows:
        return
    runs = [dict(map(tuple, row["curve"])) for row in rows]
    steps = [step for step in runs[0] if all(step in run for run in runs)]
    values = [[run[step] for run in runs] for step in steps]
    panel.plot(steps, [statistics.mean(each) for each in values], color=colour, linewidth=2, label=label)
    panel.fill_between(steps, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.2, linewidth=0)
