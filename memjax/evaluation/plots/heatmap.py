"""Accuracy over two axes at once, a panel a run: what the accuracy grid and the map of needles are drawn with."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from memjax.evaluation import canvas
from memjax.evaluation.plots.rows import Number

PANELS = 24  # more would be too small to read; the tables have them all
NUMBERED = 72  # cells of a panel that has its numbers in them
LEVELS = 20
DARK, LIGHT = "#101010", "#fdfdfd"  # neither is the black and white that stand for ink and paper (see svg.py)


class Map(NamedTuple):
    """Attributes:
    title: of the panel.
    cells: {(place on the horizontal axis, place on the vertical axis): accuracy}; what was not measured is not in it.
    """

    title: str
    cells: Mapping[tuple[Number, Number], Number]


def draw_maps(maps: Sequence[Map], *, title: str, across: str, upwards: str, top_down: bool = False):
    """A matplotlib `Figure`, a panel for each of the first `PANELS` maps; None without maps.

    Args:
        maps: as above.
        title: of the figure.
        across: name of the horizontal axis.
        upwards: name of the vertical one.
        top_down: the least value stands on top.
    """
    if not maps:
        return None
    shown = maps[:PANELS]
    wide, high = (max(len({cell[axis] for cell in part.cells}) for part in shown) for axis in (0, 1))
    width, height = min(6.0, max(3.0, 1.2 + 0.62 * wide)), min(5.0, 1.3 + 0.34 * high)
    columns = canvas.columns_of(len(shown), max(1, int(14 / width)))
    with canvas.style():
        figure, panels = canvas.new_figure(-(-len(shown) // columns), columns, height=height, width=width)
        if figure.get_figwidth() < 6.5:  # room for the title of the figure
            figure.set_figwidth(6.5)
        for panel in panels.flat[len(shown) :]:
            panel.set_visible(False)
        for panel, part in zip(panels.flat, shown, strict=False):
            image = _panel(panel, part, numbered=wide * high <= NUMBERED, top_down=top_down)
            lines = [canvas.shorten(line, int(11 * width)) for line in part.title.splitlines()]
            panel.set_title(canvas.plain("\n".join(lines)), fontsize=10.5)
            panel.set_xlabel(across)
            panel.set_ylabel(upwards)
        shrink = min(1.0, 3.5 / figure.get_figheight())
        bar = figure.colorbar(image, ax=panels, shrink=shrink, aspect=25, pad=0.01, ticks=[0, 0.25, 0.5, 0.75, 1])
        bar.outline.set_visible(False)
        bar.set_label("accuracy")
        more = f" (the first {PANELS} of {len(maps)})" if len(maps) > PANELS else ""
        figure.suptitle(title + more, fontsize=13)
    return figure


def _panel(panel, part: Map, *, numbered: bool, top_down: bool):
    import matplotlib

    across, upwards = (sorted({cell[axis] for cell in part.cells}) for axis in (0, 1))
    values = np.full((len(upwards), len(across)), np.nan)
    for (x, y), accuracy in part.cells.items():
        values[upwards.index(y), across.index(x)] = accuracy
    colours = matplotlib.colormaps["viridis"].resampled(LEVELS)
    image = panel.pcolormesh(
        np.ma.masked_invalid(values), cmap=colours, vmin=0, vmax=1, linewidth=1.5, edgecolors="white"
    )
    panel.grid(False)
    panel.tick_params(length=0)
    for side in panel.spines.values():
        side.set_visible(False)
    panel.set_xticks(np.arange(len(across)) + 0.5, [f"{x:g}" for x in across])
    panel.set_yticks(np.arange(len(upwards)) + 0.5, [f"{y:g}" for y in upwards])
    if top_down:
        panel.invert_yaxis()
    if numbered:
        for row, column in np.argwhere(~np.isnan(values)):
            value = float(values[row, column])
            place, colour = (column + 0.5, row + 0.5), DARK if value > 0.6 else LIGHT
            panel.annotate(_short(value), place, ha="center", va="center", fontsize=9, color=colour)
    return image


def _short(share: float) -> str:
    """Two decimals, and 1.00 only for what rounds to no mistake in a thousand."""
    return "1.00" if share >= 0.9995 else f"{min(share, 0.99):.2f}".removeprefix("0")
