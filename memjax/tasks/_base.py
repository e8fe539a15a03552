"""What every task's configuration has in common, and the types of rows and predictions."""

import dataclasses
from typing import Any, ClassVar

import jax
import numpy as np
from jaxtyping import Float32, Int, Int32

Rows = dict[str, Int32[np.ndarray, "B T"]]
RealRows = dict[str, Float32[np.ndarray, "B T *F"]]
Predictions = Int[np.ndarray, "B T"] | Int[jax.Array, "B T"]


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """Base of every task's `Config`: a frozen value that says which examples `generate` draws.

    It exists so that a data mixture can say "any task" in a type that the command line understands.
    """

    vocab_size: int = 8192
    """Number of distinct token ids; every token lies in [0, vocab_size)."""


@dataclasses.dataclass(frozen=True)
class ContinuousConfig(TaskConfig):
    """Base of the `Config` of a real-valued task."""

    features: ClassVar[int] = 1  # numbers in a token of "inputs"; a property where fields say how many
    outputs: ClassVar[int] = 1  # numbers in a token of "outputs"

    vocab_size: int = dataclasses.field(default=0, init=False)
    """No token ids: 0."""


def changed(config: TaskConfig, *names: str) -> dict[str, Any]:
    """The fields `names` that are not at their defaults, for `describe`."""
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    return {name: getattr(config, name) for name in names if getattr(config, name) != defaults[name]}
