"""How every figure of the library looks: one style, one palette, and none of pyplot's global state.

A bare `Figure` needs no display and opens none, and a notebook keeps the backend that it has.
"""

import functools
import io
from typing import Any

# Okabe and Ito's palette: told apart by colour-blind readers and in grey print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
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


def style():
    """The context to draw in."""
    import matplotlib

    return matplotlib.rc_context(STYLE)


def new_figure(rows: int, columns: int, *, height: float = 4.1):
    """A figure, which nobody has to close, and its panels [rows, columns], each `height` inches high."""
    from matplotlib.figure import Figure

    width = 5.4 * columns if columns > 1 else 7.5
    figure = Figure(figsize=(width, height * rows + 0.7), layout="constrained")
    # what a notebook asks for; a figure that pyplot does not know is else shown as its size in words
    setattr(figure, "_repr_png_", functools.partial(_png, figure))  # noqa: B010, type checkers know no such attribute
    return figure, figure.subplots(rows, columns, squeeze=False)


def _png(figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=80)
    return file.getvalue()
