"""Reading checkpoints: which is the newest that can be trusted, and its arrays on the devices that want them.

Layout of RUN_DIR/checkpoints/<step>/: `memjax.training.checkpoints`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from memjax.training import integrity
from memjax.training.integrity import DamagedError

ITEMS = {"parameters": "parameter", "optimizer": "optimizer slot"}
Abstract = Mapping[str, Any]  # jax.ShapeDtypeStruct, or anything else with shape, dtype and sharding, by name
Loaded = TypeVar("Loaded")


class MismatchError(ValueError):
    """A checkpoint of another model: not damaged, so no reason to fall back to an older one."""


def steps_in(directory: Path) -> list[int]:
    """Steps of the complete checkpoints in a `checkpoints` folder, ascending."""
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit() and path.is_dir())


def read_meta(folder: Path) -> dict[str, Any]:
    """What a checkpoint says about itself: step, positions, config, and shape and mark of each array.

    Raises DamagedError where its files are not what was written.
    """
    integrity.verify_files(folder)
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
        return reader.restore(folder / "meta", args=ocp.args.JsonRestore())


def newest(
    directory: Path, load: Callable[[int], Loaded], say: Callable[[str], None]
) -> tuple[Loaded | None, list[int]]:
    """What `load` makes of the newest step it can load, None where there is no step; and the damaged newer ones.

    Raises ValueError where none can be loaded; a MismatchError ends the search.
    """
    reasons: dict[int, Exception] = {}
    for step in reversed(steps_in(directory)):
        loaded, error = _attempt(load, step)
        if loaded is not None:
            for newer, reason in reasons.items():
                say(f"warning: checkpoint {directory / str(newer)} is damaged ({_line(reason)}); taking step {step}")
            return loaded, list(reasons)
        if isinstance(error, MismatchError):
            raise error
        reasons[step] = error or DamagedError("another process could not read it")
    if reasons:
        newest, reason = next(iter(reasons.items()))
        raise ValueError(f"{directory}: no intact checkpoint (step {newest}: {_line(reason)})") from reason
    return None, []


def _attempt(load: Callable[[int], Loaded], step: int) -> tuple[Loaded | None, Exception | None]:
    """The result of load(step) where every process could load it, else None and the error of this process if any."""
    loaded = error = None
    try:
        loaded = load(step)
    except Exception as caught:  # Orbax and TensorStore raise bare exceptions of many kinds for damaged files
        error = caught
    if jax.process_count() > 1 and not multihost_utils.process_allgather(np.asarray(error is None)).all():
        loaded = None
    return loaded, error


def load_item(folder: Path, item: str, abstract: Abstract, meta: dict[str, Any]) -> dict[str, jax.Array]:
    """Arrays of an item, checked against the model before and against their fingerprints after reading."""
    stored = meta[item]
    for name in sorted(stored.keys() ^ abstract.keys()):
        where = "checkpoint" if name in stored else "model"
        raise MismatchError(f"{folder}: {ITEMS[item]} {name} exists in the {where} only")
    for name, x in abstract.items():
        if tuple(stored[name]["shape"]) != x.shape:
            raise MismatchError(
                f"{folder}: {ITEMS[item]} {name} has shape {tuple(stored[name]['shape'])}, not {x.shape}"
            )
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = {n: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding or here) for n, x in abstract.items()}
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
        arrays = reader.restore(folder / item, args=ocp.args.StandardRestore(wanted))
    arrays = {name: arrays[name] for name in abstract}
    marks, _ = integrity.fingerprints(arrays)
    for name, mark in marks.items():
        if mark != stored[name]["mark"]:
            raise DamagedError(f"{ITEMS[item]} {name} is not what was saved")
    return arrays


def _line(error: Exception) -> str:
    """The first line of an error, short."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
