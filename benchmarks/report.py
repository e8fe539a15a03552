"""A benchmark's result: a table for the eye and JSON for the record."""

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

PACKAGES = ("memjax", "jax", "jaxlib", "flax", "torch", "transformers")


@dataclasses.dataclass(frozen=True)
class Result:
    """Attributes:
    name: of the benchmark, and of its file.
    title: one line that says what was measured, with the shape.
    rows: one dictionary a line of the table; the first one's keys are the columns.
    notes: lines printed below the table.
    """

    name: str
    title: str
    rows: list[dict[str, Any]]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        columns = list(self.rows[0])
        lines = [columns, *[[_cell(row.get(column, "")) for column in columns] for row in self.rows]]
        widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
        table = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]
        return "\n".join([self.title, *[f"  {line.rstrip()}" for line in table], *self.notes])

    def write(self, directory: Path) -> Path:
        """Writes directory/<name>.json with the date, the machine and the versions, and returns its path."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{self.name}.json"
        path.write_text(json.dumps({**dataclasses.asdict(self), **circumstances()}, indent=2) + "\n", encoding="utf-8")
        return path


def circumstances(packages: tuple[str, ...] = PACKAGES) -> dict[str, Any]:
    """When, on what and with which versions a result was measured."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"date": datetime.date.today().isoformat(), "chip": chip(), "cores": cores, "versions": versions}


def chip() -> str:
    """The processor's own name, as far as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
