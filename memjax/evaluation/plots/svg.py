"""Figures as files: PNG for a screen, and SVG markup that stands in a page and takes its colours from it."""

import base64
import contextlib
import io
import re
from collections.abc import Iterator
from xml.etree import ElementTree

from memjax.evaluation import canvas

LIMIT = 400_000  # characters of markup; a picture with more is embedded as PNG, whose size points do not raise
PIXELS = 88  # of a page, for an inch of a figure: letters are as large as those around it
_NAME = r"#([\w-]+)"
SPACE = "{http://www.w3.org/2000/svg}"
LINK = "{http://www.w3.org/1999/xlink}href"
# Colours that a page sets: those of the palette are brighter on dark paper, ink is black or nearly white.
VARIABLES = {
    "#ffffff": "var(--paper)",
    **{colour.lower(): f"var(--line-{number})" for number, colour in enumerate(canvas.COLOURS)},
    "#000000": "var(--ink)",
}


def emit(figure, file) -> None:
    """Writes a figure as PNG into a binary file or a path, at a size that reads well on a screen."""
    figure.savefig(file, format="png", dpi=130)


def markup(figure, name: str, *, label: str, limit: int = LIMIT) -> str:
    """A figure for a page: inline SVG without namespaces, or an image with the PNG in it where that is smaller.

    Args:
        figure: a matplotlib figure.
        name: an identifier that no other figure of the page has; what the SVG refers to inside itself begins with it.
        label: what a screen reader says.
        limit: characters of the SVG from which on it becomes PNG.

    Text stays text, transparent is transparent, and colours are the CSS variables --ink, --paper and --line-<n>. The
    figure's own title is left out: a page has headings. The same figure gives the same markup every time.
    """
    with _untitled(figure):
        root = _tree(figure, name)
    _strip(root)
    _rename(root, name)
    root.set("role", "img")
    root.set("aria-label", label)
    root.set("style", f"width: {PIXELS * figure.get_figwidth():.0f}px")
    text = ElementTree.tostring(root, encoding="unicode")
    return text if len(text) <= limit else _image(figure, label)


@contextlib.contextmanager
def _untitled(figure) -> Iterator[None]:
    titles = [text for text in figure.texts if text.get_visible() and text.get_text() == figure.get_suptitle()]
    for text in titles:
        text.set(visible=False, in_layout=False)
    yield
    for text in titles:
        text.set(visible=True, in_layout=True)


def _tree(figure, name: str) -> ElementTree.Element:
    import matplotlib

    file = io.BytesIO()
    settings: dict = {"svg.fonttype": "none", "svg.hashsalt": name}
    with matplotlib.rc_context(settings):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    return ElementTree.fromstring(file.getvalue())


def _strip(root: ElementTree.Element) -> None:
    """Takes away what a page needs no copy of: namespaces, metadata, styles for all elements, names of fonts."""
    for parent in root.iter():
        for child in list(parent):
            if child.tag in (f"{SPACE}metadata", f"{SPACE}style"):
                parent.remove(child)
    for node in root.iter():
        node.tag = node.tag.removeprefix(SPACE)
        if LINK in node.attrib:
            node.set("href", node.attrib.pop(LINK))
        if "style" in node.attrib:
            node.set("style", _colours(re.sub(r"font-family:[^;]*;? ?", "", node.attrib["style"])))
    for size in ("width", "height"):  # the page says how wide, the viewBox how high
        root.attrib.pop(size, None)


def _colours(style: str) -> str:
    return re.sub(r"#[0-9a-f]{6}", lambda found: VARIABLES.get(found[0], found[0]), style)


def _rename(root: ElementTree.Element, name: str) -> None:
    """Identifiers become the figure's name and a number (matplotlib's hold addresses); unused ones go."""
    wanted = dict.fromkeys(found for _, _, value in _references(root) for found in re.findall(_NAME, value))
    new = {own: f"{name}-{number}" for number, own in enumerate(wanted)}
    for node in root.iter():
        own = node.attrib.pop("id", None)
        if own in new:
            node.set("id", new[own])
    for node, key, value in list(_references(root)):
        node.set(key, re.sub(_NAME, lambda found: f"#{new[found[1]]}", value))


def _references(root: ElementTree.Element) -> Iterator[tuple[ElementTree.Element, str, str]]:
    for node in root.iter():
        for key, value in node.attrib.items():
            if (key == "href" and value.startswith("#")) or value.startswith("url(#"):
                yield node, key, value


def _image(figure, label: str) -> str:
    file = io.BytesIO()
    emit(figure, file)
    image = ElementTree.Element("img", alt=label)
    image.set("src", "data:image/png;base64," + base64.b64encode(file.getvalue()).decode())
    return ElementTree.tostring(image, encoding="unicode")
