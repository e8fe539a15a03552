"""What a token costs at the end of a long context: time of decoding and prefill, bytes of state."""

from collections.abc import Callable, Sequence
from typing import Any

from memjax.evaluation import canvas
from memjax.evaluation.plots.rows import Report, Row, is_number

TASK = "decoding"
TIMES = {"decode_ms_per_token": "decoding", "prefill_ms_per_token": "prefill"}
BYTES = {
    "state_bytes": "state",
    "temporary_bytes": "temporary memory of a decoding step",
    "one_call_temporary_bytes": "temporary memory of the context in one call",
}
STYLES = ("-", "--", ":")

Line = tuple[str, list[Row]]  # legend entry, rows by context


def decoding(reports: Sequence[Report]):
    """A matplotlib `Figure` of time and memory over the context, a curve a run and batch; None where not measured."""
    lines = _lines(reports)
    if not lines:
        return None
    with canvas.style():
        figure, ((times, memory),) = canvas.new_figure(1, 2)
        _panel(times, lines, TIMES, "milliseconds per token")
        times.set_yscale("log")
        times.set_title("time")
        _panel(memory, lines, BYTES, "bytes")
        sizes = [row[name] for _, rows in lines for row in rows for name in BYTES if _positive(row.get(name))]
        if sizes:
            canvas.bytes_axis(memory.yaxis, sizes)
        memory.set_title("memory")
        for number, (name, _) in enumerate(lines if len(lines) > 1 else ()):
            canvas.key(times, name, **canvas.look(number))
        canvas.shared_legend(figure, [times, memory])
        figure.suptitle(canvas.plain(f"Cost over the context{_devices(lines)}"), fontsize=13)
    return figure


def _lines(reports: Sequence[Report]) -> list[Line]:
    found = [(report, row) for report in reports for row in report["results"] if row["task"] == TASK]
    found = [(report, row) for report, row in found if _positive(row.get("context"))]
    many = {name: len({row.get(name) for _, row in found}) > 1 for name in ("batch", "device")}
    lines: dict[str, list[Row]] = {}
    for report, row in found:
        parts = [report["run"]] if len(reports) > 1 else []
        parts += [f"batch {row.get('batch')}"] if many["batch"] else []
        parts += [str(row.get("device"))] if many["device"] else []
        lines.setdefault(", ".join(parts), []).append(row)
    return [(name, sorted(rows, key=lambda row: row["context"])) for name, rows in lines.items()]


def _panel(panel, lines: Sequence[Line], names: dict[str, str], unit: str) -> None:
    for style, (name, words) in zip(STYLES, names.items(), strict=False):
        for number, (_, rows) in enumerate(lines):
            points = [(row["context"], row[name]) for row in rows if _positive(row.get(name))]
            if points:
                panel.plot(*zip(*points, strict=True), **canvas.look(number), linestyle=style)
        if any(_positive(row.get(name)) for _, rows in lines for row in rows):
            canvas.key(panel, words, color="0.45", linestyle=style)
    contexts = sorted({row["context"] for _, rows in lines for row in rows})
    panel.set_xscale("log", base=2)
    panel.set_xticks(contexts, [f"{context:,}" for context in contexts], rotation=30 if len(contexts) > 5 else 0)
    panel.minorticks_off()
    panel.set_xlabel("context (tokens)")
    panel.set_ylabel(unit)


def _positive(value: Any) -> bool:
    return is_number(value) and value > 0


def _devices(lines: Sequence[Line]) -> str:
    """The device and the batch that all rows have in common."""
    rows = [row for _, found in lines for row in found]
    words: list[tuple[str, Callable[[Any], str]]] = [("device", str), ("batch", lambda batch: f"batch {batch}")]
    shared = [say(rows[0][name]) for name, say in words if name in rows[0] and len({r.get(name) for r in rows}) == 1]
    return f" ({', '.join(shared)})" if shared else ""
