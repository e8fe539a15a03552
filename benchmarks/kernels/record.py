"""Tables with ratios, the shapes at which a kernel is not to be picked, and what is kept."""

import dataclasses
import json
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from benchmarks import report
from benchmarks.kernels.ceilings import Ceilings
from benchmarks.kernels.contender import ATTENTION, KERNELS
from benchmarks.kernels.measure import Row

PACKAGES = (*report.PACKAGES, "libtpu", "jax-cuda13-plugin", "jax-cuda12-plugin", "triton", "fla-core")
BESIDE = ("xla", ATTENTION, "fla", "torch")  # times as fast as these


def table(rows: Sequence[Row]) -> str:
    """The contenders at a problem; a ratio above 1 says that the line's contender is faster than the column's."""
    seconds = {row.contender: row.seconds for row in rows if row.seconds is not None}
    columns = [name for name in BESIDE if name in seconds]
    lines = [_line(row, {name: seconds[name] for name in columns}) for row in rows if row.seconds is not None]
    notes = tuple(f"  {row.contender}: {row.reason or row.remark}" for row in rows if row.reason or row.remark)
    title = f"{rows[0].op} {rows[0].shape}, {rows[0].mode}"
    return str(report.Result("kernels", title, lines, notes)) if lines else "\n".join([title, *notes])


def _line(row: Row, beside: dict[str, float]) -> dict[str, Any]:
    assert row.seconds is not None
    percent = lambda share: "" if share is None else f"{share:.1%}"
    line: dict[str, Any] = {"contender": row.contender, "ms": f"{1e3 * row.seconds:.3f}"}
    line |= {f"x {name}": "" if name == row.contender else f"{t / row.seconds:.2f}" for name, t in beside.items()}
    line |= {"of copy": percent(row.of_copy), "of matmul": percent(row.of_matmul)}
    return {**line, "error": f"{max(row.errors.values()):.1e}" if row.errors else ""}


def not_to_be_picked(groups: Sequence[Sequence[Row]]) -> list[str]:
    """A line for each problem at which a kernel of ours took longer than XLA."""
    lines = []
    for rows in groups:
        seconds = {row.contender: row.seconds for row in rows if row.seconds is not None}
        for name in KERNELS:
            if name in seconds and "xla" in seconds and seconds[name] > seconds["xla"]:
                ratio = seconds[name] / seconds["xla"]
                lines.append(f"{rows[0].op} {rows[0].shape}, {rows[0].mode}: {name} takes {ratio:.2f} times xla's time")
    return lines


def write(path: Path, groups: Sequence[Sequence[Row]], ceilings: Ceilings, rounds: int, seed: int) -> None:
    """Writes date, chip, versions, ceilings and all rows as JSON."""
    content = {
        **report.circumstances(PACKAGES),
        "chip": jax.devices()[0].device_kind,
        "driver": driver(),
        "rounds": rounds,
        "seed": seed,
        "ceilings": dataclasses.asdict(ceilings),
        "rows": [dataclasses.asdict(row) for rows in groups for row in rows],
        "not to be picked": not_to_be_picked(groups),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")  # a run that is stopped meanwhile leaves the older file whole
    partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(partial, path)


def default_path(root: Path) -> Path:
    """benchmarks/results/kernels-CHIP.json"""
    chip = re.sub(r"[^a-z0-9]+", "-", jax.devices()[0].device_kind.lower()).strip("-")
    return root / "benchmarks" / "results" / f"kernels-{chip}.json"


def driver() -> str:
    """Version of the NVIDIA driver, or what the platform says of itself."""
    if jax.default_backend() == "gpu":
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.split()[0]
        except (OSError, subprocess.SubprocessError, IndexError):
            pass
    return " ".join(jax.devices()[0].client.platform_version.split())
