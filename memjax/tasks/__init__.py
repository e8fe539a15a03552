"""Benchmark tasks: one file each, a numpy generator with its metric.

A task is a module of this package that offers

    Config                                a frozen `TaskConfig` with defaults; an impossible one raises ValueError
    generate(rng, n, config)              {"tokens", "targets"}: int32 [n, T]; target -1 is not scored
    score(predictions, data, config)      {"accuracy": ..., ...} for predictions [n, T]
    scored(config)                        upper bound of the scored positions in a row
    describe(config)                      the axes that a report shows, e.g. {"pairs": 4, "length": 64}
    chance(config)                        accuracy of guessing; may be left out: a uniform guess over the vocabulary

A new task is one new file: this page finds it; a leading underscore marks a module that is no task. A module that sets
`CONTINUOUS = True` has real-valued rows and is listed in `CONTINUOUS` instead of `TASKS`:

    Config                                a frozen `ContinuousConfig`: also says the numbers of a token
    generate(rng, n, config)              {"inputs" [n, T, F], "outputs" [n, T, O], "mask" [n, T]}, float32
    score(predictions, data, config)      {"mse": ..., ...} for predictions [n, T, O]
    describe(config)                      as above
    chance(config)                        the "nearest_accuracy" of guessing, for a task whose `score` has one
"""

import dataclasses
import importlib
import pkgutil
from types import ModuleType

from memjax.tasks._base import ContinuousConfig as ContinuousConfig
from memjax.tasks._base import TaskConfig as TaskConfig

_MODULES = {
    info.name: importlib.import_module(f"{__name__}.{info.name}")
    for info in pkgutil.iter_modules(__path__)
    if not info.name.startswith("_")
}

TASKS: dict[str, ModuleType] = {n: m for n, m in _MODULES.items() if not getattr(m, "CONTINUOUS", False)}
CONTINUOUS: dict[str, ModuleType] = {n: m for n, m in _MODULES.items() if getattr(m, "CONTINUOUS", False)}


def in_split(config: TaskConfig, split: str) -> TaskConfig:
    """Returns the setting whose rows are those of a split, "train" or "test"; `config` if the task has no splits."""
    return dataclasses.replace(config, split=split) if hasattr(config, "split") else config


def of(config: TaskConfig) -> tuple[str, ModuleType]:
    """Returns the name and the module of the task that `config` belongs to; ValueError if there is none."""
    for name, module in _MODULES.items():
        if type(config) is module.Config:
            return name, module
    raise ValueError(f"{type(config).__name__} is no task's Config; tasks: {', '.join(sorted(_MODULES))}")
