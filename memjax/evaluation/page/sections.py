"""The parts of a report's page: runs, figures, results, continuations, published numbers, configurations."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from memjax import tasks
from memjax.evaluation import published
from memjax.evaluation.page.tables import LONG, Cell, table
from memjax.evaluation.page.tags import Markup, inside, tag
from memjax.evaluation.plots import Picture, markup
from memjax.evaluation.plots.rows import Report, Row, architecture

Section = tuple[str, str, Sequence[Markup]]  # identifier, heading, content

WORDS = {"state_bytes": "state", "temporary_bytes": "temporary memory", "stderr": "standard error"}
MEASUREMENTS = {
    "text": "The evaluation split of the text that the run was trained on.",
    "digits": "Held-out pictures of digits, pixel by pixel.",
    "knowledge": "What is known of a population of biographies.",
    "extrapolation": "Text in contexts longer than those of training, the state carried along.",
    "decoding": "What a token costs after a context of this length.",
}
LAST = ("chance", "examples")  # columns that stand at the end
HEAD = ("run", "state_bytes")  # those that stand at the beginning, where they differ
RUNS = ("run", "architecture", "parameters", "state_bytes", "step", "date")


def runs(reports: Sequence[Report], links: Mapping[str, str]) -> Section:
    """A row a run; `links` are addresses of the runs' own pages."""
    rows = []
    for report in reports:
        name = report["run"]
        link = tag("a", name, href=links[name]) if name in links else name
        date = report.get("date", "")
        when = Cell(date[:16].replace("T", " "), date)
        rows.append({**report, "architecture": architecture(report), "run": Cell(link, name), "date": when})
    heads = {name: WORDS.get(name, name) for name in RUNS}
    note = "State: bytes of the recurrent state of one sequence. Parameters: all of them, embeddings included."
    return "runs", "Runs" if len(reports) > 1 else "Run", [table(heads, rows), _note(note)]


def figures(pictures: Sequence[Picture]) -> Section:
    """The figures with their captions."""
    content = [
        tag(
            "figure",
            tag("h3", picture.title),
            Markup(markup(picture.figure, f"figure-{picture.name}", label=f"{picture.title}. {picture.caption}")),
            tag("figcaption", picture.caption),
        )
        for picture in pictures
    ]
    return "figures", "Figures", content


def results(reports: Sequence[Report]) -> Section:
    """A table a task, a row a run and setting."""
    content = []
    for task in dict.fromkeys(row["task"] for report in reports for row in report["results"]):
        rows = [
            {**row, "run": r["run"], "state_bytes": row.get("state_bytes", r["state_bytes"])}
            for r in reports
            for row in r["results"]
            if row["task"] == task
        ]
        content += [tag("h3", task), *_about(task), *_results(rows, named=len(reports) > 1)]
    return "results", "Results", content


def _about(task: str) -> list[Markup]:
    """The first line of what the task's module says of itself."""
    module = {**tasks.TASKS, **tasks.CONTINUOUS}.get(task)
    words = (module.__doc__ or "").partition("\n")[0] if module else MEASUREMENTS.get(task)
    return [tag("p", words)] if words else []


def _results(rows: Sequence[Row], *, named: bool) -> list[Markup]:
    axes = dict.fromkeys(name for row in rows for name in row.get("axes", ()))
    others = dict.fromkeys(name for row in rows for name, value in row.items() if not isinstance(value, list | dict))
    names = [name for name in {**axes, **others} if name not in ("task", *HEAD, *LAST)]
    head = HEAD if named else [name for name in HEAD if len({row[name] for row in rows}) > 1]
    names = [*head, *names, *(name for name in LAST if name in others)]
    notes = {name: str(rows[0][name]) for name in names if name not in axes and _is_note(name, rows)}
    heads = {name: _words(name) for name in names if name not in notes}
    said = [_note(f"{_words(name).capitalize()}: {text}") for name, text in notes.items()]
    return [table(heads, rows, given=axes), *said]


def _words(name: str) -> str:
    return WORDS.get(name, name.replace("_", " "))


def _is_note(name: str, rows: Sequence[Row]) -> bool:
    """Whether a column holds one and the same long text, which is better said once."""
    values = {row.get(name) for row in rows if not isinstance(row.get(name), list | dict)}
    return len(values) == 1 and all(isinstance(value, str) and len(value) > LONG // 2 for value in values)


def continuations(reports: Sequence[Report]) -> Section | None:
    """The prompt and what each run made of it; None where there was no prompt."""
    found = [report for report in reports if report.get("prompt") is not None and "continuation" in report]
    if not found:
        return None
    content = []
    for report in found:
        content += [tag("h3", report["run"])] if len(reports) > 1 else []
        content.append(tag("div", tag("b", report["prompt"]), report["continuation"], class_="text"))
    return "continuation", "Continuation of a prompt", content


def published_numbers(reports: Sequence[Report]) -> Section | None:
    """What others published on the tasks of the report; None where nothing is known."""
    tables = published.matching({row["task"] for report in reports for row in report["results"]})
    if not tables:
        return None
    content = [
        tag("p", "Measured by others, on their models. No figure and no table above holds any of these numbers.")
    ]
    for found in tables:
        content += [tag("h3", f"{found.title} ({found.unit})"), _published(found)]
        content.append(_note(f"Protocol: {found.protocol}. Why ours are not comparable: {found.caveat}"))
    return "published", "Published numbers", content


def _published(found: published.Table) -> Markup:
    link = Cell(tag("a", found.source, href=found.address), found.source)
    heads = {"model": "model", "scale": "size", "source": "source", "protocol": "protocol"}
    heads |= {name: name for name in found.columns}
    same = {"source": link, "protocol": found.name}
    rows = [{"model": row.model, "scale": row.scale, **_plain(found.columns, row.values), **same} for row in found.rows]
    return table(heads, rows)


def _plain(columns: Iterable[str], values: Iterable[str]) -> dict[str, Cell]:
    """Numbers with the digits that they were published with, and no bars."""
    return {name: Cell(v, float(v.replace(",", ""))) for name, v in zip(columns, values, strict=True)}


def configurations(reports: Sequence[Report]) -> Section:
    """Versions, device and configuration as JSON: of several runs what they share, and what each has of its own."""
    flat = [flatten(report.get("config", {})) for report in reports]
    shared = {key: value for key, value in flat[0].items() if all(other.get(key) == value for other in flat)}
    content = [_details("Versions and device", _places(reports))]
    if len(reports) == 1:
        content.append(_details("Configuration", reports[0].get("config", {})))
    else:
        own = [{key: value for key, value in values.items() if key not in shared} for values in flat]
        content.append(_details("Configuration that all runs share", shared))
        content.append(
            _details("What each run has of its own", {r["run"]: o for r, o in zip(reports, own, strict=True)})
        )
    return "configuration", "Configuration", content


def _places(reports: Sequence[Report]) -> list[dict[str, Any]]:
    """Every set of versions and device once, with the runs that were evaluated there."""
    found: dict[str, dict[str, Any]] = {}
    for report in reports:
        place = {"device": report.get("device"), "versions": report.get("versions")}
        found.setdefault(json.dumps(place), {**place, "runs": []})["runs"].append(report["run"])
    return list(found.values())


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """{"model.blocks.0.mixer.heads": 2, ...} of nested dictionaries and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if not items:
        return {path: value} if path else {}
    return {k: v for key, part in items for k, v in flatten(part, f"{path}.{key}" if path else str(key)).items()}


def _details(title: str, value: Any) -> Markup:
    return tag("details", tag("summary", title), tag("pre", json.dumps(value, indent=2, ensure_ascii=False)))


def _note(*children: Any) -> Markup:
    return tag("p", inside(children), class_="note")
