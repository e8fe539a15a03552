"""Checkpoints on disk: RUN_DIR/checkpoints/<step>/ with the items parameters, optimizer and meta (Orbax).

Parameters and optimiser slots are stored as flat dictionaries {path: array}, so a checkpoint can be read without
building the optimiser and laid out on any mesh. `meta` is JSON: step, data position of every process, configuration,
shape and fingerprint of every array. A checkpoint appears under its number only when it is complete (a rename).
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from memjax.sharding import path_name
from memjax.training import integrity
from memjax.training.finite import NonFiniteError
from memjax.training.reading import ITEMS, Abstract, load_item, newest, read_meta, steps_in
from memjax.training.step import TrainState

FOLDER = "checkpoints"
_TEMPORARY = ".orbax-checkpoint-tmp"  # suffix of a checkpoint that was never completed


class Restored(NamedTuple):
    """A checkpoint that was read back.

    Attributes:
        state: laid out as asked for.
        positions: data position of each process that wrote the checkpoint.
        step: updates done.
    """

    state: TrainState
    positions: list[Any]
    step: int


class CheckpointStore:
    """The checkpoints of a run that is being trained. One process (group) at a time may hold it."""

    def __init__(self, run_dir: str | Path, *, keep: int = 2, say: Callable[[str], None] = print):
        """Opens RUN_DIR/checkpoints for writing; keeps the `keep` newest checkpoints, never fewer than two."""
        self.directory = Path(run_dir).absolute() / FOLDER
        self._keep, self._say = max(keep, 2), say
        self._manager: ocp.CheckpointManager | None = None
        self._writing: int | None = None  # or written last

    def __enter__(self):
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or not issubclass(kind, KeyboardInterrupt):  # a second Ctrl-C does not wait for the disk
            self.close()

    def save(self, step: int, state: TrainState, position: Any, config: dict[str, Any]) -> None:
        """Starts writing the state after update `step`; returns when the arrays are copied, before they are on disk.

        Args:
            step: updates done; a step that is on disk already, or on its way there, is left as it is.
            state: parameters and optimiser; may be donated once this returns.
            position: JSON-able position of this process in its data.
            config: the run's configuration as JSON-able values.

        Raises NonFiniteError where a parameter or slot is not finite; nothing is written then.
        """
        if step == self._writing or step in steps_in(self.directory):
            return
        items = {"parameters": state.parameters, "optimizer": _named(state.optimizer)}
        meta = {"step": step, "config": config, "positions": _gathered(position)}
        for item, arrays in items.items():
            marks, bad = integrity.fingerprints(arrays)
            if bad:
                raise NonFiniteError(step, bad[0], f"{ITEMS[item]} {bad[0]} is not finite after the update")
            meta[item] = {name: {"shape": list(x.shape), "mark": marks[name]} for name, x in arrays.items()}
        args: dict[str, Any] = {item: ocp.args.StandardSave(arrays) for item, arrays in items.items()}
        manager = self._open()
        manager.wait_until_finished()
        self._writing = step
        manager.save(step, args=ocp.args.Composite(**args, meta=ocp.args.JsonSave(meta)), force=True)

    def restore(self, abstract: TrainState) -> Restored | None:
        """The newest intact checkpoint, laid out as `abstract` says, or None where the run has none yet.

        Damaged ones that are newer are reported in one line each and moved aside, so that their steps can be saved
        again. Raises ValueError where there are checkpoints but no intact one, or one that does not fit the model.
        """

        def load(step: int) -> Restored:
            folder, meta = self.directory / str(step), read_meta(self.directory / str(step))
            parameters = load_item(folder, "parameters", abstract.parameters, meta)
            slots = load_item(folder, "optimizer", _named(abstract.optimizer), meta)
            optimizer = jax.tree.unflatten(jax.tree.structure(abstract.optimizer), list(slots.values()))
            count = jax.device_put(np.int32(step), abstract.step.sharding)
            return Restored(TrainState(parameters, optimizer, count), meta["positions"], step)

        restored, damaged = newest(self.directory, load, self._say)
        for step in damaged:
            self._move_aside(step)
        return restored

    def clear_unfinished(self) -> None:
        """Deletes what a killed process left half-written. For the one process group that trains in this directory."""
        if jax.process_index() == 0 and self.directory.is_dir():
            for path in self.directory.glob(f"*{_TEMPORARY}*"):
                shutil.rmtree(path)

    def wait(self) -> None:
        """Returns when everything saved is on disk; raises what went wrong in writing it."""
        if self._manager is not None:
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the last save and lets go of the directory."""
        if self._manager is not None:
            self._manager.close()
            self._manager = None

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:
            options = ocp.CheckpointManagerOptions(
                preservation_policy=ocp.checkpoint_managers.LatestN(self._keep),
                async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
            )
            self._manager = ocp.CheckpointManager(self.directory, options=options)
        return self._manager

    def _seal(self) -> None:
        """Called by Orbax when every file is written, before the rename that commits the checkpoint."""
        if jax.process_index() == 0:
            integrity.write_manifest(self.directory / f"{self._writing}{_TEMPORARY}")

    def _move_aside(self, step: int) -> None:
        if jax.process_index() == 0:
            taken = len(list(self.directory.glob(f"{step}.damaged*")))
            (self.directory / str(step)).rename(self.directory / f"{step}.damaged{taken or ''}")
        self._writing = None
        _barrier(f"damaged {step}")


def restore_parameters(
    run_dir: str | Path, abstract: Abstract, say: Callable[[str], None] | None = None
) -> tuple[int, dict[str, jax.Array]]:
    """(step, parameters by path) of the newest intact checkpoint of a run; reads only, changes nothing on disk.

    Args:
        run_dir: directory of the run.
        abstract: shape, dtype and (optional) sharding of each parameter of the model that will hold them.
        say: where a line about a damaged checkpoint goes; standard error where None.

    Raises FileNotFoundError where the run has no checkpoint, ValueError where none is intact or the newest does not fit
    the model, naming the parameter.
    """
    directory = Path(run_dir).absolute() / FOLDER

    def load(step: int) -> tuple[int, dict[str, jax.Array]]:
        folder = directory / str(step)
        return step, load_item(folder, "parameters", abstract, read_meta(folder))

    found, _ = newest(directory, load, say or (lambda line: print(line, file=sys.stderr)))
    if found is None:
        raise FileNotFoundError(f"{run_dir}: holds no checkpoint (expected {FOLDER}/<step>/ in it)")
    return found


def _named(tree: Any) -> dict[str, Any]:
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _gathered(position: Any) -> list[Any]:
    """The JSON-able values of all processes, in the order of their index."""
    if jax.process_count() == 1:
        return [position]
    text = np.frombuffer(json.dumps(position).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.asarray(text.size))
    rows = multihost_utils.process_allgather(np.pad(text, (0, int(sizes.max()) - text.size)))
    return [json.loads(bytes(row[:size])) for row, size in zip(rows, sizes, strict=True)]


def _barrier(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
