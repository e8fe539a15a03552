"""The picture that judges a memory: what it recalls, over the bytes of its state."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from memjax.evaluation.canvas import COLOURS, new_figure, style

Row = Mapping[str, Any]


def draw_frontier(rows: Sequence[Row], *, title: str):
    """A matplotlib `Figure` of accuracy over state bytes, a panel a setting of the task.

    Args:
        rows: one a run: "line" (the architecture), "state_bytes", and an accuracy under each "length/pairs".
        title: of the figure.

    A line runs through the means of the runs that have the same state, bars show their least and their greatest.
    """
    settings = list(dict.fromkeys(column for row in rows for column in row if "/" in column))
    with style():
        figure, panels = new_figure(1, max(1, len(settings)))
        for panel, setting in zip(panels[0], settings, strict=False):
            lines = list(dict.fromkeys(row["line"] for row in rows))
            for colour, line in zip(itertools.cycle(COLOURS), lines, strict=False):
                _draw_line(
                    panel, [row for row in rows if row["line"] == line and setting in row], setting, line, colour
                )
            _bytes_axis(panel, sorted({row["state_bytes"] for row in rows}))
            panel.set_ylim(-0.03, 1.05)
            panel.set_ylabel("accuracy (share of scored answers)")
            panel.set_title(f"length/pairs {setting}")
            panel.legend(loc="best")
        figure.suptitle(title, fontsize=12)
    return figure


def _draw_line(panel, rows: Sequence[Row], setting: str, label: str, colour: str) -> None:
    sizes = sorted({row["state_bytes"] for row in rows})
    runs = {size: [row[setting] for row in rows if row["state_bytes"] == size] for size in sizes}
    means = [statistics.mean(runs[size]) for size in sizes]
    below = [mean - min(runs[size]) for mean, size in zip(means, sizes, strict=True)]
    above = [max(runs[size]) - mean for mean, size in zip(means, sizes, strict=True)]
    panel.errorbar(
        sizes, means, (below, above), color=colour, marker="o", markersize=6, linewidth=2, capsize=3, label=label
    )


def _bytes_axis(panel, sizes: Sequence[int]) -> None:
    panel.set_xscale("log", base=2)
    low, high = sizes[0].bit_length() - 1, sizes[-1].bit_length()
    ticks = [2**power for power in range(low, high + 1)]
    panel.set_xticks(ticks, [f"{tick // 1024} KiB" if tick >= 1024 else f"{tick} B" for tick in ticks])
    panel.minorticks_off()
    panel.set_xlabel("recurrent state of one sequence")
