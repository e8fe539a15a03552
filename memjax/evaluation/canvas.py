"""How every figure of the library looks: one style, one palette, and none of pyplot's global state.

A bare `Figure` needs no display and opens none, and a notebook keeps the backend that it has.
"""

import functools
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Okabe and Ito's palette: told apart by colour-blind readers and in grey print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "figure.facecolor": "white",
}
INSIDE = 6  # entries of a legend that has room inside its panel
BESIDE = 24  # those of one that has room beside it


def style():
    """The context to draw in."""
    import matplotlib

    return matplotlib.rc_context(STYLE)


def new_figure(rows: int, columns: int, *, height: float = 4.1, width: float | None = None):
    """A figure, which nobody has to close, and its panels [rows, columns], each `height` by `width` inches."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    width = width or (5.4 if columns > 1 else 7.5)
    layout = ConstrainedLayoutEngine(h_pad=0.09, w_pad=0.07)
    figure = Figure(figsize=(width * columns, height * rows + 0.7), layout=layout)
    # what a notebook asks for; a figure that pyplot does not know is else shown as its size in words
    setattr(figure, "_repr_png_", functools.partial(_png, figure))  # noqa: B010, type checkers know no such attribute
    return figure, figure.subplots(rows, columns, squeeze=False)


def columns_of(panels: int, most: int) -> int:
    """Columns with which as few rows as possible are as full as possible: 4 panels stand two by two."""
    rows = -(-panels // most)
    return max(1, -(-panels // max(1, rows)))


def plain(text: object) -> str:
    """`text` drawn letter for letter: dollars enclose no mathematics, a leading underscore hides no legend entry."""
    words = str(text).replace("$", r"\$")
    return f" {words}" if words.startswith("_") else words


def key(panel, label: object, **how: Any):
    """An entry of a legend for what many lines have in common, a colour or a style; its handle."""
    return panel.plot([], [], label=plain(label), **how)[0]


def look(index: int) -> dict[str, str]:
    """Colour and marker of the line with this number; 56 lines are told apart."""
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index // len(COLOURS) % len(MARKERS)]}


def legends(figure, panels: Iterable[Any], *, inside: int = INSIDE) -> None:
    """A legend for each panel that is drawn on: in it where there is room, else beside it, for which the figure grows.

    Beside a panel are the first `BESIDE` entries, and how many more there would be.
    """
    room: dict[int, float] = {}
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        if 0 < len(labels) <= inside:
            panel.legend(handles, labels, loc="best")
        elif labels:
            if len(labels) > BESIDE:
                handles = [*handles[:BESIDE], _nothing()]
                labels = [*labels[:BESIDE], f"and {len(labels) - BESIDE} more"]
            size = STYLE["legend.fontsize"] if len(labels) <= 12 else 8
            panel.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.0, 1.02), fontsize=size)
            column = panel.get_subplotspec().colspan.start
            room[column] = max(room.get(column, 0.0), 0.6 + 0.0088 * size * max(map(len, labels)))
    figure.set_figwidth(figure.get_figwidth() + sum(room.values()))


def shared_legend(figure, panels: Iterable[Any]) -> None:
    """One legend below the figure of the lines that panels have in common: each entry once."""
    entries = {}
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        entries |= {label: handle for handle, label in zip(handles, labels, strict=True) if label not in entries}
    legend_below(figure, entries)


def legend_below(figure, entries: Mapping[str, Any]) -> None:
    """A legend of {entry: handle} below the figure, which grows for it."""
    if entries:
        longest = max(map(len, entries))
        columns = max(1, min(len(entries), int(figure.get_figwidth() / (0.6 + 0.085 * longest))))
        figure.set_figheight(figure.get_figheight() + 0.21 * -(-len(entries) // columns))
        figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=columns)


def shorten(text: str, size: int) -> str:
    """`text` with at most about `size` letters, the middle of a longer one left out."""
    half = max(1, (size - 1) // 2)
    return text if len(text) <= size else f"{text[:half]}…{text[-half:]}"


def bytes_axis(axis, sizes: Sequence[int | float], *, ticks: int = 7) -> None:
    """A logarithmic axis of bytes, at most about `ticks` powers of two named on it."""
    low, high = int(min(sizes)).bit_length() - 1, int(max(sizes)).bit_length()
    step = -(-(high - low) // (ticks - 1))
    powers = [2**power for power in range(low, high + 1, step)]
    getattr(axis.axes, f"set_{axis.axis_name}scale")("log", base=2)
    axis.set_ticks(powers, [size_word(power) for power in powers])
    axis.set_ticks([], minor=True)


def size_word(size: int) -> str:
    """A power of two of bytes as a tick names it: `512 B`, `64 KiB`."""
    power = max(0, min((size.bit_length() - 1) // 10, 4))
    return f"{size >> 10 * power} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def _nothing():
    """What stands in a legend before words about no line."""
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="")


def _png(figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=80)
    return file.getvalue()
