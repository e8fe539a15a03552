"""Runs of several models from several seeds, and what they recall over the bytes of their states.

An experiment is a dictionary {name: Variant}; see configs/mom_mqar.py. Each run is an ordinary one in
<output_dir>/<name>/seed<k>: what is done is not done again, what was stopped goes on. Every number of the table and of
the figure is read from the runs' directories, so that two commands may share the seeds between them (`--seeds 0` beside
`--seeds 1 2`: small models leave a core idle), and the last one to end shows all.
"""

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from benchmarks import processes
from benchmarks.family import measure, recorded, replace_between
from benchmarks.report import Result
from memjax import config as configs
from memjax.config import ConfigError, TrainConfig
from memjax.evaluation import plots
from memjax.evaluation.frontiers import draw_frontier
from memjax.training import keep_compiled_programs

Row = dict[str, Any]
Setting = Literal["small", "large"]


@dataclasses.dataclass(frozen=True)
class Variant:
    """Attributes:
    line: the models that share a line of the figure and differ in the size of their state.
    config: the run; its output_dir and seed are replaced.
    model: what the runs of one model from several settings share. The first seed trains them all; further seeds, table
        and figure have the best of them. None: it has one.
    """

    line: str
    config: TrainConfig
    model: str | None = None


@dataclasses.dataclass(frozen=True)
class Flags:
    """Trains every model from every seed, and writes a table and a figure of accuracy over state bytes."""

    only: tuple[str, ...] = ()
    """Names of the runs to train; none: all, from further seeds the chosen ones. The table shows what is done."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of parameters and rows to train in this call."""
    setting: Setting = "small"
    """`small` for two CPU cores, `large` for an accelerator."""
    minutes: float = 10.0
    """Time of one run in this call, compilation included; the next call goes on with what is unfinished."""
    workers: int = 1
    """Runs trained side by side, each in a process of its own on its share of the cores."""
    output_dir: str | None = None
    """Folder of the runs; None: that of the experiment."""
    readme: str = "README.md"
    """File that gets the table, between its two markers; empty: none."""
    results: str = "benchmarks/results"
    """Folder of the JSON file and the figure."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Attributes:
    name: of the JSON file, the figure, and the markers of the table.
    title: of the figure.
    output_dir: folder of the runs.
    variants: setting -> {name: Variant}.
    seeds: those that the table waits for.
    look: how its runs are shown; None: recall over bytes of state.
    """

    name: str
    title: str
    output_dir: str
    variants: Callable[[Setting], Mapping[str, Variant]]
    seeds: tuple[int, ...] = (0, 1, 2)
    look: "Look | None" = None


@dataclasses.dataclass(frozen=True)
class Look:
    """Attributes:
    table: (rows that are done, variants, seeds) -> lines of Markdown.
    draw: (rows, title) -> figure.
    more: (the run of a row) -> what the row has beside the numbers of its report.
    """

    table: Callable[[Sequence[Row], Mapping[str, Variant], Sequence[int]], list[str]]
    draw: Callable[[Sequence[Row], str], Any]
    more: Callable[[TrainConfig], Row] = lambda config: {}


def main(argv: Sequence[str], experiment: Experiment) -> int:
    """Runs the command line `argv`; returns the exit status: 2 for wrong usage, 1 for failures, 130 for Ctrl-C."""
    keep_compiled_programs()  # the seeds of a model share them
    try:
        flags = configs.parse_flags(Flags(), argv, program=f"python -m configs.{experiment.name}")
        return 130 if run(flags, experiment) == "interrupted" else 0
    except (ValueError, OSError) as error:
        return configs.fail(error)


def run(flags: Flags, experiment: Experiment, say: Callable[[str], None] = print) -> str:
    """Trains what `flags` ask for, seed after seed; writes table and figure after each run. Returns the last status.

    Raises ConfigError, before anything is trained, for an unknown model or a file without markers.
    """
    variants, status, lines = experiment.variants(flags.setting), "", []
    unknown = [name for name in flags.only if name not in variants]
    if unknown:
        raise ConfigError(f"--only: there is no model {unknown[0]!r}; there are {', '.join(variants)}")
    if flags.workers < 1:
        raise ConfigError(f"--workers must be at least 1, got {flags.workers}")
    if not flags.minutes > 0 or not flags.seeds or min(flags.seeds) < 0:
        raise ConfigError("--minutes must be positive, and --seeds one or more numbers from 0 on")
    large = "" if flags.setting == "small" else "_large"
    name, folder = experiment.name + large, Path(flags.output_dir or experiment.output_dir + large)
    if flags.readme:
        replace_between(Path(flags.readme), name, None)
    for seed in flags.seeds:
        names = flags.only or due(seed, experiment, variants, folder)
        runs = {variant: placed(variants, variant, seed, folder) for variant in names}
        if flags.workers > 1:
            status = processes.train_all(runs, 60 * flags.minutes, flags.workers)
            lines = write(flags, experiment, variants, folder, name)
            if status in processes.ENDED:
                return status
            continue
        for variant, config in runs.items():
            say(f"== {variant}, seed {seed}")
            _, status = measure(variant, config, 60 * flags.minutes, say)
            if status in processes.ENDED:
                return status
            lines = write(flags, experiment, variants, folder, name)
    say("\n".join(lines))
    return status


def placed(variants: Mapping[str, Variant], name: str, seed: int, folder: Path) -> TrainConfig:
    """The run of a variant from a seed."""
    return dataclasses.replace(variants[name].config, output_dir=str(folder / name / f"seed{seed}"), seed=seed)


def due(seed: int, experiment: Experiment, variants: Mapping[str, Variant], folder: Path) -> list[str]:
    """The variants to train from a seed: all from the first, then the best of each model whose first seed is done."""
    first = experiment.seeds[0]
    if seed == first:
        return list(variants)
    rows = [row for row in recorded_rows(variants, (first,), folder) if row["status"] == "done"]
    tried, chosen = {row["mixer"] for row in rows}, best(rows, variants, first)
    siblings = lambda name: [other for other in variants if model(other, variants) == model(name, variants)]
    return [name for name in variants if name in chosen or not tried.issuperset(siblings(name))]


def write(flags: Flags, experiment: Experiment, variants, folder: Path, name: str) -> list[str]:
    """Writes JSON, figure and table of all runs that are done; returns the lines of the table."""
    look = experiment.look or Look(table, lambda rows, title: draw_frontier(rows, title=title))
    rows = recorded_rows(variants, sorted({*experiment.seeds, *flags.seeds}), folder, look.more)
    done = [row for row in rows if row["status"] == "done"]
    shown = best(done, variants, experiment.seeds[0])
    lines = look.table(done, shown, experiment.seeds)
    if done:
        Result(name, experiment.title, rows).write(Path(flags.results))
        figure = look.draw([row for row in done if row["mixer"] in shown], experiment.title)
        plots.emit(figure, Path(flags.results) / f"{name}.png")
    if flags.readme:
        replace_between(Path(flags.readme), name, lines)
    return lines


def recorded_rows(
    variants: Mapping[str, Variant],
    seeds: Sequence[int],
    folder: Path,
    more: Callable[[TrainConfig], Row] = lambda config: {},
) -> list[Row]:
    """The rows of all runs that have a report, seed after seed."""
    rows: list[Row] = []
    for seed in seeds:
        for name, variant in variants.items():
            config = placed(variants, name, seed, folder)
            row = recorded(name, config)
            if row is not None:
                rows.append({**row, **more(config), "line": variant.line, "seed": seed})
    return rows


def model(name: str, variants: Mapping[str, Variant]) -> str:
    """The name that the variants of one model share."""
    return variants[name].model or name


def best(rows: Sequence[Row], variants: Mapping[str, Variant], seed: int) -> dict[str, Variant]:
    """Of the variants of each model the one with the highest accuracy from `seed`, a mean over settings."""

    def accuracy(name: str) -> float:
        mine = [row for row in rows if row["mixer"] == name and row["seed"] == seed]
        found = [row[column] for row in mine for column in columns(row)]
        return statistics.mean(found) if found else -1.0

    models: dict[str, list[str]] = {}
    for name in variants:
        models.setdefault(model(name, variants), []).append(name)
    return {name: variants[name] for names in models.values() for name in [max(names, key=accuracy)]}


def columns(row: Row) -> list[str]:
    """The settings that a row has an accuracy for."""
    return [column for column in row if "/" in column]


def table(rows: Sequence[Row], variants: Mapping[str, Variant], seeds: Sequence[int]) -> list[str]:
    """Markdown: a line a model, accuracies as mean +- standard deviation over the seeds."""
    asked = list(dict.fromkeys(column for row in rows for column in columns(row)))
    chosen = ["Learning rate"] if any(variant.model for variant in variants.values()) else []
    head = ["Model", *asked, "State (bytes)", "Parameters", *chosen, "Seeds"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for name, variant in variants.items():
        mine = [row for row in rows if row["mixer"] == name]
        cells = [spread([row[column] for row in mine]) for column in asked]
        counts = [f"{mine[0][key]:,}" if mine else "-" for key in ("state_bytes", "parameters")]
        rate = [f"{variant.config.optimizer.learning_rate:g}" for _ in chosen]
        lines.append([model(name, variants), *cells, *counts, *rate, f"{len(mine)} of {max(len(seeds), len(mine))}"])
    return [f"| {' | '.join(line)} |" for line in lines]


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation as the table shows them."""
    if not values:
        return "-"
    deviation = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{deviation}"
