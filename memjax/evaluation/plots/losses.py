"""Loss curves of runs whose report has a number that is no accuracy: bits per byte of text, squared error."""

import itertools
from collections.abc import Sequence

from memjax.evaluation import canvas
from memjax.evaluation.plots.rows import Report, Row

HEADLINES = {"bits_per_byte": "bits per byte", "mse": "mean squared error"}


def headline(report: Report) -> tuple[str, float] | None:
    """Name and value of the number of a report that is no accuracy; None where there is none.

    Rows with axes are one of many settings of a measurement, none of which speaks for the run.
    """
    rows = [row for row in report["results"] if "axes" not in row]
    found = [(name, row[name]) for row in rows for name in HEADLINES if name in row]
    return found[0] if found else None


def loss_panel(panel, texts: Sequence[tuple[Report, Sequence[Row]]]) -> None:
    """Training and validation loss over steps, one colour per run."""
    shown, crowded = [], 2 * len(texts) > canvas.INSIDE
    for colour, (report, rows) in zip(itertools.cycle(canvas.COLOURS), texts, strict=False):
        name = canvas.plain(f"{report['run']}{'' if crowded else ': '}") if len(texts) > 1 else ""
        steps, losses = _series(rows, "loss")
        smooth = _smooth(losses)
        panel.plot(steps, losses, color=colour, alpha=0.25, linewidth=1)
        panel.plot(steps, smooth, color=colour, linewidth=1.8, label=name if crowded else f"{name}training")
        steps, validation = _series(rows, "eval/mse" if _is_squared(report) else "eval/loss")
        label = "_" if crowded else f"{name}validation"
        panel.plot(steps, validation, color=colour, linestyle="--", marker="o", markersize=4, label=label)
        shown += smooth[len(smooth) // 20 :] + validation
    if crowded:
        canvas.key(panel, "validation", color="0.45", linestyle="--", marker="o", markersize=4)
    if shown:  # the first steps fall from far above and would flatten the rest
        margin = 0.05 * (max(shown) - min(shown)) + 0.05
        panel.set_ylim(min(shown) - margin, max(shown) + margin)
    panel.set_xlabel("optimizer step")
    squared = {_is_squared(report) for report, _ in texts}
    panel.set_ylabel(
        "loss" if len(squared) > 1 else "mean squared error" if True in squared else "loss (nats per token)"
    )
    scores = ", ".join(_score(report, len(texts) > 1) for report, _ in texts)
    panel.set_title(canvas.plain(f"validation: {scores}" if len(texts) < 3 else "loss over training"))


def _score(report: Report, named: bool) -> str:
    name, value = headline(report) or ("", 0.0)
    return f"{report['run']} {value:.3g}" if named else f"{value:.3f} {HEADLINES[name]}"


def _is_squared(report: Report) -> bool:
    return (headline(report) or ("",))[0] == "mse"


def _series(rows: Sequence[Row], name: str) -> tuple[list[int], list[float]]:
    found = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    return [step for step, _ in found], [value for _, value in found]


def _smooth(values: Sequence[int | float]) -> list[float]:
    """An exponential mean over about a fortieth of the curve, without the pull of its start."""
    keep = max(0.0, 1 - 40 / max(len(values), 1))
    total = weight = 0.0
    means = []
    for value in values:
        total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        means.append(total / weight)
    return means
