"""RUN_DIR/metrics.jsonl, one JSON object a line, and the optional mirrors TensorBoard and Weights & Biases."""

import contextlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "metrics.jsonl"
Row = dict[str, float | int | None]


def read_rows(run_dir: str | Path) -> list[dict[str, Any]]:
    """The rows of a run in order; [] where there are none. A last line torn by a kill is left out."""
    path = Path(run_dir) / FILE
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    return rows


class MetricsLog:
    """Appends rows to the metrics of a run; every row is on its way to the disk when `write` returns."""

    def __init__(
        self,
        run_dir: str | Path,
        *,
        after: int,
        tensorboard: bool = False,
        wandb: str | None = None,
        writes: bool = True,
    ):
        """Opens the log for steps later than `after`; rows of later steps, left by a run that was cut off, are dropped.

        Args:
            run_dir: directory of the run.
            after: the last step whose rows stay.
            tensorboard: also write RUN_DIR/tensorboard (tensorboardX).
            wandb: project name in Weights & Biases, None for none.
            writes: False reads the rows only and swallows new ones (for every process but the first).

        Raises ImportError naming the missing package where a mirror is asked for and not installed.
        """
        rows = [row for row in read_rows(run_dir) if row.get("step", 0) <= after]
        self._found = {(row["step"], key) for row in rows for key in row if "step" in row}
        self._mirrors, self._file = [], None
        if not writes:
            return
        path = Path(run_dir) / FILE
        _replace(path, "".join(json.dumps(row) + "\n" for row in rows))
        self._mirrors = [_TensorBoard(run_dir, after)] if tensorboard else []
        self._mirrors += [_WandB(run_dir, wandb)] if wandb else []
        self._file = path.open("a")

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def has(self, step: int, prefix: str) -> bool:
        """Whether the log, when it was opened, held a row of `step` with a key that begins with `prefix`."""
        return any(found == step and key.startswith(prefix) for found, key in self._found)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends {"step": step, **values}; numbers that are not finite become null, which JSON can hold."""
        if self._file is None:
            return
        row: Row = {"step": step, **{k: v if math.isfinite(v) else None for k, v in values.items()}}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        for mirror in self._mirrors:
            mirror.write(step, values)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        for mirror in self._mirrors:
            mirror.close()


def _replace(path: Path, text: str) -> None:
    """Gives a file new contents in one go: a kill leaves the old or the new ones, never a part."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


class _TensorBoard:
    def __init__(self, run_dir: str | Path, after: int):
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ImportError("tensorboard: needs the package tensorboardX") from error
        self._writer = SummaryWriter(str(Path(run_dir) / "tensorboard"), purge_step=after + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _WandB:
    def __init__(self, run_dir: str | Path, project: str):
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ImportError("wandb: needs the package wandb (pip install wandb)") from error
        path = Path(run_dir).absolute()
        self._run = wandb.init(project=project, dir=str(path), id=path.name, resume="allow")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()
