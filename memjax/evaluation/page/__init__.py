"""A report as one HTML file: tables that sort, figures, nothing loaded from anywhere.

It is whole without its script, which only sorts. Its content security policy forbids every request and every script but
that one, so that even a mistake in escaping could not run what a run's name or a prompt says.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import memjax
from memjax.evaluation.page import sections
from memjax.evaluation.page.tags import Markup, tag
from memjax.evaluation.plots import Picture
from memjax.evaluation.plots.rows import Report


def page(
    reports: Sequence[Report],
    pictures: Sequence[Picture],
    *,
    content: Mapping[str, Any] | None = None,
    links: Mapping[str, str] | None = None,
) -> str:
    """The page of one report, or of several together.

    Args:
        reports: as `memjax.evaluation.evaluate_run` returns them.
        pictures: as `memjax.evaluation.plots.pictures` draws them.
        content: what is embedded as JSON under the identifier `report`: report.json; None: nothing.
        links: {run: address of its own page}.
    """
    parts = [
        sections.runs(reports, links or {}),
        sections.figures(pictures),
        sections.results(reports),
        sections.continuations(reports),
        sections.published_numbers(reports),
        sections.configurations(reports),
    ]
    found = [part for part in parts if part]
    body = [tag("section", tag("h2", title), inner, id=name) for name, title, inner in found]
    contents = tag("nav", [tag("a", title, href=f"#{name}") for name, title, _ in found])
    header = tag("header", tag("h1", _title(reports)), tag("p", _when(reports)), contents)
    words = f"Written by memjax {memjax.__version__}; nothing on this page is loaded from anywhere."
    script = _file("page.js")
    rest = [tag("main", body), tag("footer", tag("p", words)), *_embedded(content), tag("script", script)]
    document = tag("html", _head(_title(reports), script), tag("body", header, rest), lang="en")
    return f"<!doctype html>\n{document}\n"


def _title(reports: Sequence[Report]) -> str:
    return reports[0]["run"] if len(reports) == 1 else f"{len(reports)} runs"


def _when(reports: Sequence[Report]) -> str:
    dates = sorted({report["date"][:10] for report in reports if report.get("date")})
    devices = sorted({report["device"] for report in reports if report.get("device")})
    when = f"evaluated {' to '.join(dict.fromkeys([dates[0], dates[-1]]))}" if dates else ""
    return ", ".join(filter(None, ["Recall report", when, f"on {', '.join(devices)}" if devices else ""]))


def _head(title: str, script: str) -> Markup:
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{hashed}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("link", rel="icon", href="data:,"),  # else a browser asks for one
        tag("title", f"{title}: report"),
        tag("style", _file("page.css")),
    )


def _embedded(content: Mapping[str, Any] | None) -> list[Markup]:
    """report.json inside the page. JSON has no use for "<" outside of strings, and in them it may be written so."""
    if content is None:
        return []
    text = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
    return [tag("script", Markup(text), type="application/json", id="report")]


def _file(name: str) -> Markup:
    """A file of this package; neither of them holds the end of the element that it stands in."""
    return Markup(resources.files(__name__).joinpath(name).read_text(encoding="utf-8"))
