"""Rows of a report from what lm-evaluation-harness says of its tasks."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from lm_eval.api.metrics import perplexity

from memjax.data.tokenizers import Tokenizer
from memjax.evaluation.evaluators import row_name
from memjax.evaluation.harness import PREFIX
from memjax.evaluation.harness.documents import protocol
from memjax.evaluation.harness.request import HarnessRequest

Row = dict[str, Any]

SHARES = ("acc", "accuracy", "contains", "exact_match", "acc_norm")
"""Metrics that are shares of right answers; the first of them that a task has comes first in its rows."""


def local_rows(found: Mapping[str, Any], tasks: Any, request: HarnessRequest, tokenizer: Tokenizer) -> list[Row]:
    """A row for each setting of a local task, from what the harness says of each document."""
    ((name, task),) = tasks["tasks"].items()
    about, settings = task.config.metadata, {}
    for sample in found["samples"][name]:
        settings.setdefault(tuple(sample["doc"][axis] for axis in about["axes"]), []).append(sample)
    rows = []
    for setting, samples in settings.items():
        scores = {key: [float(sample[key]) for sample in samples] for key in task.aggregation()}
        row: Row = {"task": PREFIX + name, **dict(zip(about["axes"], setting, strict=True))}
        row |= _metrics(scores, task.aggregation())
        if (chance := samples[0]["doc"].get("chance")) is not None:
            row["chance"] = chance
        row |= {"examples": len(samples), "protocol": protocol(about["protocol"], request, tokenizer)}
        rows.append(row | {"axes": list(about["axes"])})
    return rows


def foreign_rows(found: Mapping[str, Any], tasks: Any) -> list[Row]:
    """A row for each task of the harness, and for each group that it sums up."""
    rows = []
    for name, result in found["results"].items():
        values = {
            key.removesuffix(",none"): float(value)
            for key, value in result.items()
            if "," in key and isinstance(value, int | float) and not key.partition(",")[0].endswith("_stderr")
        }
        if not values:
            continue
        row: Row = {"task": PREFIX + name, **_named(values)}
        share = _share(values)
        samples = [sample for sample in found["samples"].get(name, ()) if sample["filter"] == "none"]
        scores = [float(sample[share]) for sample in samples if isinstance(sample.get(share), int | float)]
        if len(scores) > 1 and math.isclose(float(np.mean(scores)), values[str(share)], abs_tol=1e-9):
            row["stderr"] = _error(scores)
        task, shots = tasks["tasks"].get(name), found["n-shot"].get(name) or 0
        version = task.VERSION if task is not None else found["versions"].get(name)
        row["examples"] = int(result.get("sample_len", 0))
        row["protocol"] = f"lm-evaluation-harness's own {name}, version {version}, {shots} worked examples"
        rows.append(row | {"axes": []})
    return rows


def _share(values: Mapping[str, Any]) -> str | None:
    return next((name for name in SHARES if name in values), None)


def _metrics(scores: Mapping[str, Sequence[float]], aggregation: Mapping[str, Callable]) -> Row:
    """What the documents' scores make together, with standard errors: {name: value}."""
    values, errors = {}, {}
    for name, each in scores.items():
        values[name] = float(aggregation[name](each))
        if len(each) > 1:  # d exp(-x) = exp(-x) dx
            errors[name] = _error(each) * (values[name] if aggregation[name] is perplexity else 1.0)
    row = _named(values)
    for name, error in errors.items():
        row["stderr" if name == _share(values) else f"{name}_stderr"] = error
    return row


def _named(values: Mapping[str, float]) -> Row:
    """Metrics under this library's names, the share that is right before the others."""
    ordered = sorted(values, key=lambda name: name != _share(values))
    return {"accuracy" if name == "acc" else name: values[name] for name in ordered}


def _error(scores: Sequence[float]) -> float:
    """The standard error of a mean."""
    return float(np.std(scores, ddof=1) / math.sqrt(len(scores)))


def describe(row: Mapping[str, Any]) -> str:
    """A row's task and setting: "harness/niah/variant=single_1,length=1024"."""
    return row_name(row["task"], {axis: row[axis] for axis in row["axes"]})


def words(row: Mapping[str, Any]) -> str:
    """What a row says, for the eye: its metrics, with the standard error behind the first."""
    metrics = [
        (name, value)
        for name, value in row.items()
        if isinstance(value, float) and name not in ("chance", "stderr", *row["axes"]) and not name.endswith("_stderr")
    ]
    parts = [f"{name} {value:.4f}" if value < 10 else f"{name} {value:.4g}" for name, value in metrics]
    parts[0] += f" ± {row['stderr']:.4f}" if "stderr" in row else ""
    parts[0] += f" (chance {row['chance']:.4f})" if "chance" in row else ""
    return f"{', '.join(parts)}, {row['examples']} examples"
