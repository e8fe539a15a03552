"""Loss over the position in the context, and over contexts longer than the trained one."""

from collections.abc import Sequence

from memjax.evaluation import canvas
from memjax.evaluation.plots.rows import Number, Report, Row, is_number

EXTRAPOLATION = "extrapolation"


def positions(reports: Sequence[Report]):
    """A matplotlib `Figure` of the rows with "by_position" and of those of length extrapolation; None without any.

    "by_position" holds [start, stop, loss in nats per token, tokens] of each bucket of positions; a curve a row, of
    extrapolation the longest one (dashed), for shorter contexts are its beginning. Beside it the loss over the length
    at which a run was evaluated: of all tokens, and of the last ones (dashed). A dotted line marks the length of
    training.
    """
    placed = [(report, rows) for report in reports if (rows := _placed(report))]
    longer = [(report, rows) for report in reports if (rows := _extrapolated(report))]
    paints = [(paint, found) for paint, found in ((_by_position, placed), (_by_length, longer)) if found]
    if not paints:
        return None
    with canvas.style():
        figure, panels = canvas.new_figure(1, len(paints))
        for (paint, found), panel in zip(paints, panels[0], strict=True):
            paint(panel, found, len(reports) > 1)
            _trained(panel, [row for _, rows in found for row in rows])
            panel.set_ylabel("loss (nats per token)")
        if len(reports) > 1:
            canvas.shared_legend(figure, panels[0])
        else:
            canvas.legends(figure, panels[0])
        figure.suptitle("Loss over the context", fontsize=13)
    return figure


def _placed(report: Report) -> list[Row]:
    rows = [row for row in report["results"] if _points(row)]
    longest = max((row["length"] for row in rows if row["task"] == EXTRAPOLATION), default=0)
    return [row for row in rows if row["task"] != EXTRAPOLATION or row["length"] == longest]


def _points(row: Row) -> list[tuple[Number, Number]]:
    """(middle of the bucket, loss) of each bucket that holds a token."""
    buckets = row.get("by_position") or []
    return [((start + stop) / 2, loss) for start, stop, loss, tokens in buckets if tokens and is_number(loss)]


def _extrapolated(report: Report) -> list[Row]:
    rows = [row for row in report["results"] if row["task"] == EXTRAPOLATION and is_number(row.get("loss"))]
    return sorted(rows, key=lambda row: row["length"])


def _by_position(panel, placed: Sequence[tuple[Report, Sequence[Row]]], named: bool) -> None:
    for number, (report, rows) in enumerate(placed):
        for row in rows:
            long = row["task"] == EXTRAPOLATION
            what = f"contexts of {row['length']:,}" if long else str(row["task"])
            label = canvas.plain(f"{report['run']}: {what}" if named else what)
            points, style = tuple(zip(*_points(row), strict=True)), "--" if long else "-"
            panel.plot(*points, **canvas.look(number), linestyle=style, markersize=4, linewidth=1.8, label=label)
    _log2(panel, [stop for _, rows in placed for row in rows for _, stop, _, _ in row["by_position"]])
    panel.set_xlabel("position in the context (tokens)")
    panel.set_title("by position")


def _by_length(panel, longer: Sequence[tuple[Report, Sequence[Row]]], named: bool) -> None:
    for number, (report, rows) in enumerate(longer):
        name, look = canvas.plain(f"{report['run']}: ") if named else "", canvas.look(number)
        panel.plot(*_series(rows, "loss"), **look, linewidth=2, label=f"{name}all tokens of a context")
        if any(is_number(row.get("last_loss")) for row in rows):
            panel.plot(
                *_series(rows, "last_loss"), **look, linestyle="--", linewidth=1.5, label=f"{name}its last tokens"
            )
    _log2(panel, [row["length"] for _, rows in longer for row in rows])
    panel.set_xlabel("length of the context (tokens)")
    panel.set_title("by length of the context")


def _series(rows: Sequence[Row], name: str) -> tuple[list[int], list[Number]]:
    found = [(row["length"], row[name]) for row in rows if is_number(row.get(name))]
    return [length for length, _ in found], [loss for _, loss in found]


def _log2(panel, values: Sequence[int]) -> None:
    """Powers of two evenly spaced, every one or every second of them named."""
    low, high = max(1, min(values)).bit_length() - 1, max(values).bit_length()
    powers = [2**power for power in range(low, high + 1, 1 if high - low < 8 else 2)]
    panel.set_xscale("log", base=2)
    panel.set_xticks(powers, [f"{power:,}" for power in powers])
    panel.minorticks_off()


def _trained(panel, rows: Sequence[Row]) -> None:
    lengths = sorted({row["trained_length"] for row in rows if is_number(row.get("trained_length"))})
    for number, length in enumerate(lengths):
        label = "_" if number else "length of training"
        panel.axvline(length, color="0.45", linestyle=":", linewidth=1.5, label=label)
