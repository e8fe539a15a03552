"""Tables of a page: numbers that can be read and sorted."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from memjax.evaluation.page.tags import Child, Markup, tag
from memjax.evaluation.plots.rows import is_number, state_size

LONG = 48  # letters from which on a text may break into lines


class Cell(NamedTuple):
    """Attributes:
    shown: what stands in the cell.
    value: what the column is sorted by; None: what is shown.
    """

    shown: Child
    value: str | float | None = None


def table(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]], *, given: Collection[str] = ()) -> Markup:
    """A table with a head, which can be scrolled; a column of nothing but numbers is set to the right.

    Args:
        columns: {key of the rows: words of the column's head}.
        rows: a value is a number, a text, a `Cell`, or None or missing for an empty cell.
        given: columns of numbers that were chosen and not measured: they are shown as they are.
    """
    numeric = {key for key in columns if _numeric([row.get(key) for row in rows])}
    heads = [tag("th", words, scope="col", class_=_class(key in numeric)) for key, words in columns.items()]
    lines = [tag("tr", [_cell(key, row.get(key), key in numeric, key in given) for key in columns]) for row in rows]
    return tag("div", tag("table", tag("thead", tag("tr", heads)), tag("tbody", lines)), class_="table", tabindex=0)


def number(name: str, value: int | float) -> str:
    """A number for the eye: sizes of memory in KiB, counts with commas, shares with four decimals."""
    if name.endswith("_bytes"):
        return state_size(int(value))
    if isinstance(value, int):
        return f"{value:,}"
    size = abs(value)
    if value != value or size == float("inf"):
        return str(value)
    if value == 0 or 0.001 <= size < 1000:
        return f"{value:.4f}"
    return f"{value:,.0f}" if 1000 <= size < 1e9 else f"{value:.2e}"


def is_share(name: str, value: Any) -> bool:
    """Whether a number is one of correct answers, which a bar may stand for."""
    return ("accuracy" in name or name == "contains") and is_number(value) and 0 <= value <= 1


def _numeric(values: Sequence[Any]) -> bool:
    inner = [value.value if isinstance(value, Cell) else value for value in values]
    known = [value for value in inner if value is not None]
    return bool(known) and all(is_number(value) for value in known)


def _cell(key: str, value: Any, numeric: bool, given: bool) -> Markup:
    if isinstance(value, Cell):
        return tag("td", value.shown, data_value=value.value, class_=_class(numeric))
    if value is None:
        return tag("td", data_value="", class_=_class(numeric))
    if not is_number(value):
        return tag("td", str(value), class_="wide" if len(str(value)) > LONG else None)
    share = is_share(key, value)
    return tag(
        "td",
        f"{value:,g}" if given and isinstance(value, float) else number(key, value),
        data_value=repr(value),
        title=f"{value:,} bytes" if key.endswith("_bytes") else None,
        class_=_class(numeric, share),
        style=f"--share: {100 * value:.1f}%" if share else None,
    )


def _class(numeric: bool, share: bool = False) -> str | None:
    return " ".join([*(["number"] if numeric else []), *(["share"] if share else [])]) or None
