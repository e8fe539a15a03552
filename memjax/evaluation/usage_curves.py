"""How the use of memory layers' tables changes over a run, drawn from its metrics."""

import itertools
import re
from pathlib import Path

from memjax.evaluation import canvas
from memjax.evaluation.runs import read_metrics

# what `memjax.layers.memory_usage` measures: {name: (in words, unit)}
LABELS = {
    "used": ("rows that were read", "share of rows"),
    "kl": ("divergence of reads from uniform", "nats"),
    "kl_weighted": ("divergence of weights from uniform", "nats"),
    "gini": ("inequality of reads", "Gini coefficient"),
    **{f"mass_{percent}": (f"rows that hold {percent}% of the weight", "share of rows") for percent in (50, 90, 99)},
}
CEILING = "used_ceiling"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

_KEY = re.compile(r"(?:metric/)?layer(\d+)/usage/(?:head|level)(\d+)/(\w+)")
Head = tuple[int, int]  # numbers of the layer and of its head, or of a level of its tree
Curve = list[tuple[int, float]]  # (step, value)


def usage(run_dir: str | Path):
    """How a run's memory layers used their tables over its steps, a panel a metric; a matplotlib `Figure`.

    A line for every layer (its colour) and head (its marker). Dashed beside the rows used: what as many reads of rows
    picked at random would use. As the last expression of a notebook's cell the figure shows itself.

    Args:
        run_dir: directory of a finished or running run, whose metrics.jsonl is read.

    Raises ValueError where the run logged no use of a table.
    """
    curves = usage_curves(run_dir)
    names = [name for name in dict.fromkeys((*LABELS, *curves)) if name in curves and name != CEILING]
    if not names:
        raise ValueError(f"usage: {run_dir} logged no use of a table; only runs with memory layers do")
    heads = sorted({head for name in names for head in curves[name]})
    with canvas.style():
        rows = -(-len(names) // 2)
        figure, panels = canvas.new_figure(rows, min(2, len(names)), height=2.8)
        for name, panel in itertools.zip_longest(names, panels.flat):
            if name is None:
                panel.set_visible(False)
            else:
                _panel(panel, name, curves, heads)
        entries, columns = panels.flat[0].get_legend_handles_labels(), min(4, len(heads) + 1)
        figure.legend(*entries, loc="outside lower center", ncols=columns)
        figure.suptitle(f"{Path(run_dir).resolve().name}: use of the memory tables", fontsize=13)
    return figure


def usage_curves(run_dir: str | Path) -> dict[str, dict[Head, Curve]]:
    """{metric: {(layer, head): [(step, value), ...]}} of a run, in the order of its log; null is left out."""
    curves: dict[str, dict[Head, Curve]] = {}
    for row in read_metrics(run_dir):
        for key, value in row.items():
            match = _KEY.fullmatch(key)
            if match is not None and value is not None:
                layer, head, name = match.groups()
                curves.setdefault(name, {}).setdefault((int(layer), int(head)), []).append((row["step"], value))
    return curves


def _panel(panel, name: str, curves: dict[str, dict[Head, Curve]], heads: list[Head]) -> None:
    layers = sorted({layer for layer, _ in heads})
    dashed = curves.get(CEILING, {}) if name == "used" else {}
    for layer, head in sorted(curves[name]):
        colour, marker = canvas.COLOURS[layers.index(layer) % len(canvas.COLOURS)], MARKERS[head % len(MARKERS)]
        label, points = f"layer {layer}, head {head}", tuple(zip(*curves[name][layer, head], strict=True))
        panel.plot(*points, color=colour, marker=marker, markersize=4, markevery=0.1, linewidth=1.5, label=label)
    for number, ((layer, _), curve) in enumerate(sorted(dashed.items())):
        colour = canvas.COLOURS[layers.index(layer) % len(canvas.COLOURS)]
        label = "_" if number else "as many rows picked at random"  # mostly one line on top of the other: named once
        panel.plot(*zip(*curve, strict=True), color=colour, linestyle="--", linewidth=1.2, label=label)
    panel.set_ylim(bottom=0)
    panel.set_xlabel("optimizer step")
    words, unit = LABELS.get(name, ("", ""))
    panel.set_ylabel(unit)
    panel.set_title(f"{name}: {words}" if words else name)
