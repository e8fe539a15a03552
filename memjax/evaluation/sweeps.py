"""The picture of a sweep over learning rates: error upwards, one line a variant, the spread over seeds as a band."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from memjax.evaluation.canvas import COLOURS, new_figure, style

Row = Mapping[str, Any]


def draw_sweep(rows: Sequence[Row], *, line: str, title: str):
    """A matplotlib `Figure` of final errors over learning rates, both axes logarithmic.

    Args:
        rows: one a run: "learning_rate", "mse" (None where it diverged), "diverged", and the variant under `line`.
        line: the key whose values are the lines.
        title: of the figure.

    A line runs through the medians of the seeds that ended in a number, its band from their least to their greatest.
    A cross at the upper edge marks a learning rate at which a seed diverged, beside it how many of how many.
    """
    with style():
        figure, ((panel,),) = new_figure(1, 1)
        kinds = list(dict.fromkeys(row[line] for row in rows))
        for place, (colour, kind) in enumerate(zip(itertools.cycle(COLOURS), kinds, strict=False)):
            _draw_line(panel, [row for row in rows if row[line] == kind], str(kind), colour, place)
        panel.set_xscale("log")
        if any(row["mse"] for row in rows):
            panel.set_yscale("log")
        if any(row["diverged"] for row in rows):  # room for the crosses, above what ended in a number
            bottom, top = panel.get_ylim()
            panel.set_ylim(bottom, top * (top / bottom) ** 0.25 if panel.get_yscale() == "log" else 1.25 * top)
        panel.set_xticks(sorted({row["learning_rate"] for row in rows}))
        panel.set_xticklabels([f"{rate:g}" for rate in sorted({row["learning_rate"] for row in rows})])
        panel.minorticks_off()
        panel.set_xlabel("learning rate")
        panel.set_ylabel("mean squared error after training")
        panel.legend(loc="best", title=line.replace("_", " "))
        figure.suptitle(title, fontsize=12)
    return figure


def _draw_line(panel, rows: Sequence[Row], label: str, colour: str, place: int) -> None:
    rates = sorted({row["learning_rate"] for row in rows})
    at = {rate: [row for row in rows if row["learning_rate"] == rate] for rate in rates}
    errors = {rate: [row["mse"] for row in at[rate] if not row["diverged"]] for rate in rates}
    known = [rate for rate in rates if errors[rate]]
    gap = [statistics.median(errors[rate]) if errors[rate] else float("nan") for rate in rates]
    panel.plot(rates, gap, color=colour, marker="o", markersize=5, linewidth=2, label=label)
    spread = [(min(errors[rate]), max(errors[rate])) for rate in known]
    if spread:
        panel.fill_between(known, *zip(*spread, strict=True), color=colour, alpha=0.15, linewidth=0)
    for rate in rates:
        lost = len(at[rate]) - len(errors[rate])
        if lost:  # crosses of several lines stand one below the other
            where, edge = (rate, 0.97 - 0.05 * place), panel.get_xaxis_transform()
            panel.plot(*where, marker="x", color=colour, markersize=8, markeredgewidth=2, transform=edge)
            panel.annotate(
                f"{lost}/{len(at[rate])}", where, (8, -3), xycoords=edge, textcoords="offset points", fontsize=8
            )
