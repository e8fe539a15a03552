"""HTML as nested calls. What is not `Markup` is text, and text is escaped: a run's name can never become a tag."""

import html
from collections.abc import Iterable

VOID = ("meta", "link", "img", "br")  # elements without an end


class Markup(str):
    """Text that is HTML already."""


Child = str | int | None | Iterable["Child"]


def tag(element: str, /, *children: Child, **attributes: str | int | float | None) -> Markup:
    """An element. Children are text, `Markup`, iterables of these, or None.

    Attributes lose a trailing underscore and write others as dashes (`class_`, `data_value`); one that is None is left
    out.
    """
    pairs = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    head = "".join([element, *(f' {key}="{html.escape(str(value))}"' for key, value in pairs.items())])
    return Markup(f"<{head}>" if element in VOID else f"<{head}>{inside(children)}</{element}>")


def inside(child: Child) -> Markup:
    """The children of an element as they stand between its tags."""
    if child is None:
        return Markup("")
    if isinstance(child, Markup):
        return child
    if isinstance(child, str | int):
        return Markup(html.escape(str(child)))
    return Markup("".join(inside(part) for part in child))
