"""What runs on biographies know: their table, their learning curves, and when their plateau ended."""

import functools
import statistics
from collections.abc import Mapping, Sequence

from benchmarks.frontier import Look, Row, Variant, spread
from memjax.config import TrainConfig
from memjax.data import TaskData
from memjax.evaluation import plateau_end, plateau_loss
from memjax.evaluation.evaluators import KNOWLEDGE
from memjax.evaluation.learning_curves import draw_curves
from memjax.evaluation.runs import read_metrics
from memjax.tasks.biographies import BiographiesConfig
from memjax.training.skeleton import Skeleton


def more(config: TrainConfig) -> Row:
    """Of a run: the curve of its attributes' loss, the level of its plateau and the step at which it was left, the
    population's name, and FLOPs a token."""
    task = population(config)
    curve = [(row["step"], row[key]) for row in read_metrics(config.output_dir) for key in row if _is_loss(key)]
    level = plateau_loss(task)
    return {
        "curve": curve,
        "plateau": level,
        "plateau_end": plateau_end([step for step, _ in curve], [loss for _, loss in curve], level) if curve else None,
        "panel": f"frequency ~ rank^-{task.power:g}" if task.power else "all people equally frequent",
        "flops": _flops(config, task.length),
    }


def population(config: TrainConfig) -> BiographiesConfig:
    """The task that a run trains on. Raises ValueError where it is not biographies."""
    task = config.data.train[0].task if isinstance(config.data, TaskData) else None
    if not isinstance(task, BiographiesConfig):
        raise ValueError(f"{config.output_dir} does not train on biographies")
    return task


def _is_loss(key: str) -> bool:
    return key.startswith(f"eval/{KNOWLEDGE}/") and key.endswith("/loss")


@functools.cache
def _flops(config: TrainConfig, length: int) -> float:
    return Skeleton.of(config.model).flops_per_token(length)


def table(rows: Sequence[Row], variants: Mapping[str, Variant], seeds: Sequence[int]) -> list[str]:
    """Markdown: a line a model, mean +- standard deviation over the seeds."""
    measured = ["Attributes known", "Bits", "Bits/parameter", "Plateau ends (step)"]
    head = ["Model", *measured, "Parameters", "FLOPs/token", "Seeds"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for name in variants:
        mine = [row for row in rows if row["mixer"] == name]
        ends = [row["plateau_end"] for row in mine if row["plateau_end"] is not None]
        missing = f" ({len(mine) - len(ends)} never)" if len(ends) < len(mine) else ""
        end = f"{statistics.mean(ends):.0f}{missing}" if ends else "-" + missing
        known = f"{statistics.mean(row['bits'] for row in mine):,.0f}" if mine else "-"
        shares = [spread([row[column] for row in mine]) for column in ("attribute_accuracy", "bits_per_parameter")]
        counts = [f"{mine[0][key]:,.0f}" if mine else "-" for key in ("parameters", "flops")]
        total = f"{len(mine)} of {max(len(seeds), len(mine))}"
        lines.append([name, shares[0], known, shares[1], end, *counts, total])
    return [f"| {' | '.join(line)} |" for line in lines]


LOOK = Look(table, lambda rows, title: draw_curves(rows, title=title), more)
