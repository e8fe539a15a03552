"""Rows of a report from what lm-evaluation-harness says of its tasks."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from lm_eval.api.metrics import perplexity

from memjax.data.tokenizers import Tokenizer
from memjax.evaluation.harness.documents import protocol
from memjax.evaluation.harness.request import HarnessRequest

Row = dict[str, Any]

SHARES = ("acc", "accuracy", "contains", "exact_match", "acc_norm")
"""Metrics, the first of which that a task has is the accuracy of its rows."""


def local_rows(found: Mapping[str, Any], tasks: Any, request: HarnessRequest, tokenizer: Tokenizer) -> list[Row]:
    """A row for each setting of a local task, from what the harness says of each document."""
    ((name, task),) = tasks["tasks"].items()
    about, settings = task.config.metadata, {}
    for sample in found["samples"][name]:
        settings.setdefault(tuple(sample["doc"][axis] for axis in about["axes"]), []).append(sample)
    rows = []
    for setting, samples in settings.items():
        row: Row = {"task": name, **dict(zip(about["axes"], setting, strict=True))}
        each = {key: [float(sample[key]) for sample in samples] for key in task.aggregation()}
        row |= _metrics(each, task.aggregation())
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
        row: Row = {"task": name, **_named(values)}
        task = tasks["tasks"].get(name)
        samples = [sample for sample in found["samples"].get(name, ()) if sample["filter"] == "none"]
        share = next((key for key in SHARES if key in values), None)
        scores = [float(sample[share]) for sample in samples if isinstance(sample.get(share), int | float)]
        if len(scores) > 1 and math.isclose(float(np.mean(scores)), values[str(share)], abs_tol=1e-9):
            row["stderr"] = _error(scores)
        row["examples"] = int(result.get("sample_len", 0))
        shots = found["n-shot"].get(name) or 0
        version = task.VERSION if task is not None else found["versions"].get(name)
        row["protocol"] = f"lm-evaluation-harness's own {name}, version {version}, {shots} worked examples"
        rows.append(row | ({"axes": []} if "accuracy" in row else {}))
    return rows


def _metrics(scores: Mapping[str, Sequence[float]], aggregation: Mapping[str, Callable]) -> Row:
    """What the documents' scores make together, with standard errors: {name: value}."""
    values, errors = {}, {}
    for name, each in scores.items():
        values[name] = float(aggregation[name](each))
        if len(each) > 1:  # d exp(-x) = exp(-x) dx
            errors[name] = _error(each) * (values[name] if aggregation[name] is perplexity else 1.0)
    share = next(name for name in SHARES if name in values)
    row = _named(values)
    for name, error in errors.items():
        row["stderr" if name == share else f"{name}_stderr"] = error
    return row


def _named(values: Mapping[str, float]) -> Row:
    """Metrics under this library's names: the share that is right comes first, as "accuracy"."""
    share = next((name for name in SHARES if name in values), None)
    own = {name: value for name, value in values.items() if name not in ("acc", "accuracy")}
    return ({} if share is None else {"accuracy": values[share]}) | own


def _error(scores: Sequence[float]) -> float:
    """The standard error of a mean."""
    return float(np.std(scores, ddof=1) / math.sqrt(len(scores)))


def describe(row: Mapping[str, Any]) -> str:
    """A row's task and setting: "niah/variant=single_1,length=1024"."""
    setting = ",".join(f"{axis}={row[axis]}" for axis in row.get("axes", ()))
    return f"{row['task']}/{setting}" if setting else row["task"]


def words(row: Mapping[str, Any]) -> str:
    """What a row says, for the eye."""
    known = ("task", "stderr", "examples", "protocol", "axes", "chance", *row.get("axes", ()))
    error = f" ± {row['stderr']:.4f}" if "stderr" in row else ""
    chance = f" (chance {row['chance']:.4f})" if "chance" in row else ""
    parts = [f"accuracy {row['accuracy']:.4f}{error}{chance}"] if "accuracy" in row else []
    parts += [
        f"{name} {value:.4g}"
        for name, value in row.items()
        if name not in (*known, "accuracy") and not name.endswith("_stderr") and isinstance(value, float)
    ]
    return ", ".join(parts) + f", {row['examples']} examples"
