"""One training run for each mixer of the library, and the table that compares them; see configs/family_mqar.py.

Mixers are found, not listed: every config that `memjax.mixers` exports and whose memory is a memory over time, that is,
holds a number (a memory layer, which fills the MLP slot, has an empty state and is left out). Every number of the table
is read from the directory of a run.
"""

import dataclasses
import hashlib
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
from flax import nnx

from benchmarks.report import Result, circumstances
from memjax import config as configs
from memjax import mixers
from memjax.config import ConfigError, TrainConfig
from memjax.data import TaskData
from memjax.evaluation import evaluate_run, evaluators
from memjax.evaluation.evaluators import KNOWLEDGE
from memjax.evaluation.report import Report
from memjax.evaluation.runs import load_config, read_metrics
from memjax.training import NonFiniteError, fit, keep_compiled_programs
from memjax.types import MixerConfig

CEILING = "Attention"  # stands first, the others below it by their accuracy
PROGRAM = "python -m configs.family_mqar"
MARKERS = "<!-- {name} -->", "<!-- end of {name} -->"
COUNTS = ("state_bytes", "parameters", "tokens_per_second")

Row = dict[str, Any]
GetConfig = Callable[[MixerConfig, Any], TrainConfig]


@dataclasses.dataclass(frozen=True)
class Flags:
    """Trains every mixer on multi-query associative recall and writes the table that compares them."""

    only: tuple[str, ...] = ()
    """Names of the mixers to train, as in `GatedDeltaNet`; none: all. Rows of the others stay as they are."""
    setting: Literal["small", "large"] = "small"
    """`small` for two CPU cores, `large` for an accelerator."""
    minutes: float = 5.0
    """Time of one mixer in this call, compilation included; the next call goes on with what is unfinished."""
    output_dir: str | None = None
    """Folder of the runs, one a mixer; None: runs/family_mqar, or runs/family_mqar_large."""
    readme: str = "README.md"
    """File that gets the table, between its two markers; empty: none."""
    results: str = "benchmarks/results"
    """Folder of the JSON file with the rows."""


def main(argv: Sequence[str], get_config: GetConfig) -> int:
    """Runs the command line `argv`; returns the exit status: 2 for wrong usage, 1 for failures, 130 for Ctrl-C."""
    keep_compiled_programs()
    try:
        flags = configs.parse_flags(Flags(), argv, program=PROGRAM)
        return 130 if run(flags, get_config) == "interrupted" else 0
    except (ValueError, OSError) as error:
        return configs.fail(error)


def run(flags: Flags, get_config: GetConfig, say: Callable[[str], None] = print) -> str:
    """Trains what `flags` ask for; the table is written anew after each mixer. Returns the last run's status.

    Raises ConfigError, before anything is trained, for an unknown mixer and for a file without markers.
    """
    experiments = {name: _experiment(config, flags, get_config) for name, config in time_mixers().items()}
    for name in flags.only:
        if name not in experiments:
            raise ConfigError(f"--only: there is no mixer {name!r}; there are {', '.join(experiments)}")
    if not flags.minutes > 0:
        raise ConfigError(f"--minutes must be positive, got {flags.minutes}")
    title = f"family_mqar{'' if flags.setting == 'small' else '_large'}"
    if flags.readme:
        replace_between(Path(flags.readme), title, None)
    rows, lines, status = _kept(Path(flags.results) / f"{title}.json", experiments), [], ""
    for name in flags.only or experiments:
        say(f"== {name}")
        row, status = measure(name, experiments[name], 60 * flags.minutes, say)
        if status in ("stopped", "interrupted"):
            break
        rows = ranked([row, *(other for other in rows if other["mixer"] != name)])
        lines = markdown(rows, next(iter(experiments.values())))
        Result(title, f"every mixer, setting {flags.setting}", rows).write(Path(flags.results))
        if flags.readme:
            replace_between(Path(flags.readme), title, lines)
    say("\n".join(lines))
    return status


def time_mixers() -> dict[str, MixerConfig]:
    """{name: its config at its defaults} of every mixer over time that `memjax.mixers` exports, the ceiling first."""
    kinds = [kind for kind in vars(mixers).values() if isinstance(kind, type) and issubclass(kind, MixerConfig)]
    found = {kind.__name__.removesuffix("Config"): kind() for kind in kinds if _remembers(kind())}
    return dict(sorted(found.items(), key=lambda item: (item[0] != CEILING, item[0])))


def _remembers(config: MixerConfig) -> bool:
    state = jax.eval_shape(lambda: config.make(32, rngs=nnx.Rngs(0)).init_state(1))
    return bool(jax.tree.leaves(state))


def measure(name: str, config: TrainConfig, seconds: float, say: Callable[[str], None] = print) -> tuple[Row, str]:
    """Trains a mixer, or goes on with it, for at most `seconds`; returns its row and the status of its run."""
    try:
        result = fit(config, evaluators=evaluators(config), say=say, seconds=seconds)
    except NonFiniteError as error:
        return {"mixer": name, "status": str(error), "run": fingerprint(config), **_when()}, "failed"
    if result.status in ("stopped", "interrupted"):
        return {}, result.status
    if not result.step:  # compiling took all the time: there is nothing to evaluate
        return {"mixer": name, "status": "unfinished", "step": 0, "run": fingerprint(config), **_when()}, result.status
    return _row(name, config, _report(config, result.step, say)), result.status


def recorded(name: str, config: TrainConfig) -> Row | None:
    """The row of a run from its newest report, None where there is none or another run lies there."""
    path = Path(config.output_dir) / "report.json"
    if not path.is_file() or fingerprint(load_config(config.output_dir)) != fingerprint(configs.resolve(config)):
        return None
    return _row(name, config, json.loads(path.read_text(encoding="utf-8")))


def _row(name: str, config: TrainConfig, report: Report) -> Row:
    rates = [row["tokens_per_second"] for row in read_metrics(config.output_dir) if "tokens_per_second" in row]
    return {
        "mixer": name,
        "status": "done" if report["step"] >= config.steps else "unfinished",
        **{name: value for result in report["results"] for name, value in numbers(result).items()},
        "state_bytes": report["state_bytes"],
        "parameters": report["parameters"],
        "tokens_per_second": statistics.median(rates) if rates else None,
        "step": report["step"],
        "learning_rate": config.optimizer.learning_rate,
        "run": fingerprint(config),
        **_when(),
    }


def _report(config: TrainConfig, step: int, say: Callable[[str], None]) -> Report:
    """The report of a run at `step`: the one that is there, or a new one."""
    path = Path(config.output_dir) / "report.json"
    if path.is_file():
        report = json.loads(path.read_text(encoding="utf-8"))
        if report["step"] == step and report["config"] == configs.to_json(load_config(config.output_dir)):
            return report
    return evaluate_run(config.output_dir, say=say)


def _experiment(mixer: MixerConfig, flags: Flags, get_config: GetConfig) -> TrainConfig:
    config = get_config(mixer, flags.setting)
    if flags.output_dir is None:
        return config
    return dataclasses.replace(config, output_dir=str(Path(flags.output_dir) / Path(config.output_dir).name))


def setting(result: Mapping[str, Any]) -> str:
    """The column of a result: "64/4" is 64 tokens with 4 pairs, "64/4+2" with two updates of them."""
    return f"{result['length']}/{result['pairs']}{'+' + str(result['updates']) if result.get('updates') else ''}"


def numbers(result: Mapping[str, Any]) -> Row:
    """What a row keeps of a result: recall under its setting, what is known by heart under the names of that report."""
    if result["task"] == KNOWLEDGE:
        return {name: result[name] for name in ("attribute_accuracy", "bits", "bits_per_parameter")}
    return {setting(result): result["accuracy"]} if "pairs" in result else {}


def fingerprint(config: TrainConfig) -> str:
    """What a row was measured with, wherever the run lies: a row of another experiment is not kept.

    Fields at their defaults are left out, so that a new field of the library does not make old rows strangers.
    """
    value = json.dumps(_chosen(dataclasses.replace(config, output_dir="")), sort_keys=True)
    return hashlib.sha256(value.encode()).hexdigest()[:12]


def _chosen(value: Any) -> Any:
    """A configuration as lists and dictionaries of the values that are not defaults."""
    if isinstance(value, tuple):
        return [_chosen(part) for part in value]
    if not dataclasses.is_dataclass(value):
        return value
    fields = [field for field in dataclasses.fields(value) if field.init]
    chosen = {f.name: _chosen(getattr(value, f.name)) for f in fields if getattr(value, f.name) != f.default}
    return {"": type(value).__name__, **chosen}


def _when() -> Row:
    found = circumstances()
    place = (
        jax.devices()[0].device_kind if jax.default_backend() != "cpu" else f"{found['cores']} cores, {found['chip']}"
    )
    return {"date": found["date"], "machine": f"{place}, jax {found['versions']['jax']}"}


def _kept(path: Path, experiments: Mapping[str, TrainConfig]) -> list[Row]:
    """The rows of an earlier call that still belong to these experiments."""
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
    return [r for r in rows if r["mixer"] in experiments and r["run"] == fingerprint(experiments[r["mixer"]])]


def ranked(rows: Sequence[Row]) -> list[Row]:
    """The ceiling, then by the accuracies from left to right, then by name; runs without a number last."""

    def rank(row: Row):
        scores = [-row[column] for column in _settings([row])]
        return row["mixer"] != CEILING, not scores, scores, row["mixer"]

    return sorted(rows, key=rank)


def _settings(rows: Sequence[Row]) -> list[str]:
    """The columns that hold accuracies, in the order in which the rows name them."""
    return list(dict.fromkeys(column for row in rows for column in row if "/" in column))


def markdown(rows: Sequence[Row], config: TrainConfig) -> list[str]:
    """The table of the rows, and a line that says how they were measured."""
    columns, usual = _settings(rows), _usual_rate(rows, config)
    head = ["Mixer", *columns, "State (bytes)", "Parameters", "Tokens/s", "Steps"]
    lines = [head, ["---", *["---:"] * (len(head) - 2), "---"]]
    for row in rows:
        numbers = [f"{row[column]:.3f}" if column in row else "-" for column in columns]
        counts = ["-" if row.get(key) is None else f"{row[key]:,.0f}" for key in COUNTS]
        lines.append([f"`{row['mixer']}`{_own_rate(row, usual)}", *numbers, *counts, _steps(row, config.steps)])
    return [*(f"| {' | '.join(line)} |" for line in lines), "", _caption(rows, config, usual)]


def _usual_rate(rows: Sequence[Row], config: TrainConfig) -> float:
    """The learning rate that most rows have; the others say theirs."""
    return statistics.mode(
        [row["learning_rate"] for row in rows if "learning_rate" in row] or [config.optimizer.learning_rate]
    )


def _own_rate(row: Row, usual: float) -> str:
    rate = row.get("learning_rate", usual)
    return "" if rate == usual else f" (learning rate {rate:g})"


def _steps(row: Row, steps: int) -> str:
    if row["status"] == "done":
        return f"{row['step']:,}"
    return f"**unfinished**: {row['step']:,} of {steps:,}" if "step" in row else f"**failed**: {row['status']}"


def _caption(rows: Sequence[Row], config: TrainConfig, rate: float) -> str:
    model, dates = config.model, sorted({row["date"] for row in rows})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    tasks = [part.task for part in config.data.train] if isinstance(config.data, TaskData) else []
    trained = " ".join(setting(vars(task)) for task in tasks)
    return (
        f"Accuracy of recall at length/pairs over {config.evaluation.examples:,} rows, trained on {trained} with a "
        f"vocabulary of {model.vocab_size:,}; width {model.width}, {model.repeats * len(model.blocks)} layers, no MLP, "
        f"{config.steps:,} steps of {config.batch_size} rows, peak learning rate {rate:g}; "
        f"state of one sequence; training tokens per second without compilation. {when}; "
        f"{'; '.join(sorted({row['machine'] for row in rows}))}."
    )


def replace_between(path: Path, name: str, lines: Sequence[str] | None) -> None:
    """Puts `lines` between the two markers of `name` in a text file; None only looks whether they are there.

    Raises ConfigError where the file or one of its markers is missing.
    """
    first, last = (marker.format(name=name) for marker in MARKERS)
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    text = path.read_text(encoding="utf-8")
    before, found, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not found or not end:
        raise ConfigError(f"{path} needs the lines {first!r} and {last!r}, the table of {name} goes between them")
    if lines is not None:
        inside = "\n".join(["", "", *lines, "", ""])
        path.write_text(f"{before}{first}{inside}{last}{after}", encoding="utf-8")
