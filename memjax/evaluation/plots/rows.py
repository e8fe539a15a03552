"""How the figures read the rows of a report. A row that a figure does not know is none of its business."""

import itertools
import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from memjax.evaluation import harness

Report = Mapping[str, Any]
Row = Mapping[str, Any]
Number = int | float
Setting = tuple[tuple[str, Any], ...]  # ((axis, value), ...) of a row

MANY = 7  # reports from which on a figure with a line for each would be hard to read: the colours of the palette
# what may differ between two seeds of a run: where it lies, what is random in it, and how often it is looked at
NO_VARIANT = ("output_dir", "seed", "tensorboard", "wandb", "log_every", "checkpoint_every", "keep_checkpoints")


def state_size(size: int) -> str:
    """A number of bytes for a title: `512 B`, `16.4 KiB`, `2.0 MiB`."""
    if size < 1024:
        return f"{size} B"
    power = min((size.bit_length() - 1) // 10, 3)
    return f"{size / 1024**power:.1f} {('KiB', 'MiB', 'GiB')[power - 1]}"


def is_number(value: Any) -> TypeGuard[Number]:
    """Whether a value can be drawn; a truth value cannot."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def recall_rows(report: Report, task: str | None = None) -> list[Row]:
    """The rows that are recall: an accuracy at a setting of one of the library's own tasks.

    What the evaluation harness scored has another protocol and stands in tables only.
    """
    return [
        row
        for row in report["results"]
        if row.get("axes") and is_number(row.get("accuracy")) and not row["task"].startswith(harness.PREFIX)
        if task in (None, row["task"])
    ]


def recall_tasks(reports: Sequence[Report]) -> list[str]:
    """The tasks of the recall rows of all reports, each once, in their order."""
    return list(dict.fromkeys(row["task"] for report in reports for row in recall_rows(report)))


def setting_of(row: Row, *but: str) -> Setting:
    """The axes of a row with their values, without those that are named."""
    return tuple((name, row[name]) for name in row["axes"] if name not in but)


def words(setting: Setting) -> str:
    """A setting for the eye: `pairs 4, length 64`."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in setting)


def axes_of(rows: Sequence[Row]) -> list[str]:
    """The axes, of those that are numbers, along which these results of one task differ, in the order of `describe`."""
    names = [name for name in rows[0]["axes"] if all(is_number(row.get(name)) for row in rows)]
    return [name for name in names if len({row[name] for row in rows}) > 1]


def lines_of(rows: Sequence[Row], axis: str) -> dict[Setting, list[Row]]:
    """The results of one run and task that differ along `axis` only, sorted by it: {other axes: two rows or more}."""
    groups: dict[Setting, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row[axis]):
        groups.setdefault(setting_of(row, axis), []).append(row)
    return {fixed: group for fixed, group in groups.items() if len(group) > 1}


def variant(report: Report) -> str:
    """What tells a run apart from those that are not seeds of it; "" where the report holds no configuration."""
    config = report.get("config") or {}
    chosen = {name: value for name, value in config.items() if name not in NO_VARIANT}
    return json.dumps(chosen, sort_keys=True) if chosen else ""


def mean_of_seeds(reports: Sequence[Report]) -> list[Report]:
    """Of more than `MANY` reports those of one configuration from different seeds become one, with mean accuracies."""
    groups: dict[tuple, list[Report]] = {}
    for report in reports if len(reports) > MANY else ():
        groups.setdefault((variant(report) or report["run"], report["state_bytes"]), []).append(report)
    if not groups:
        return list(reports)
    return [one for group in groups.values() for one in ([_mean(group)] if _are_seeds(group) else group)]


def _are_seeds(group: Sequence[Report]) -> bool:
    return len(group) > 1 and len({report.get("config", {}).get("seed") for report in group}) == len(group)


def _mean(group: Sequence[Report]) -> Report:
    scores: dict[tuple, list[Row]] = {}
    for report in group:
        for row in recall_rows(report):
            scores.setdefault((row["task"], setting_of(row)), []).append(row)
    rows = [{**same[0], "accuracy": statistics.mean(row["accuracy"] for row in same)} for same in scores.values()]
    return {**group[0], "run": f"{_common([report['run'] for report in group])} ({len(group)} seeds)", "results": rows}


def _common(names: Sequence[str]) -> str:
    """What the names of the seeds of a run begin with: `MoM-4` of `MoM-4/seed0` and `MoM-4/seed1`."""
    same = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    shared = "".join(letters[0] for letters in same)
    return shared.removesuffix("seed").rstrip("/-_. ") or names[0]


def architecture(report: Report) -> str:
    """The mixers of a run, as its configuration names them: `GatedDeltaNet`, of a hybrid `Attention + GatedDeltaNet`.

    Attention that cannot reach back to the beginning of the longest row on which its recall was measured is
    `SlidingWindow`. "unknown" where the report holds no configuration.
    """
    blocks = report.get("config", {}).get("model", {}).get("blocks", [])
    longest = max((row["length"] for row in recall_rows(report) if is_number(row.get("length"))), default=0)
    names = [_mixer_name(block["mixer"], longest) for block in blocks]
    return " + ".join(dict.fromkeys(names)) or "unknown"


def _mixer_name(mixer: Mapping[str, Any], longest: int) -> str:
    name = mixer["class"].rpartition(":")[2].rpartition(".")[2].removesuffix("Config")
    return "SlidingWindow" if name == "Attention" and mixer.get("context", longest) < longest else name
