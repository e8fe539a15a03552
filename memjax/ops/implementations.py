"""The choice between the implementations of an op, and the check of its arguments' shapes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

Implementation = Literal["reference", "xla", "pallas_tpu", "pallas_gpu"]
_ABSENT = ("pallas_tpu", "pallas_gpu")


def choose(op: str, implementation: str | None, known: Mapping[str, Callable]) -> Callable:
    """The implementation of an op by its name, None: the XLA one. Raises as the ops document it."""
    if implementation in _ABSENT:
        raise NotImplementedError(f"{op} has no {implementation!r} kernel yet; use 'xla' or None")
    if implementation is not None and implementation not in known:
        raise ValueError(f"unknown implementation {implementation!r}; one of {', '.join(known)}")
    return known[implementation or "xla"]


def check_shapes(op: str, expected: Mapping[str, tuple[Any, Sequence[tuple[int, ...]]]]) -> None:
    """Raises ValueError for the first array, by its name, that has none of its shapes; None fits everywhere."""
    for name, (array, shapes) in expected.items():
        if array is not None and array.shape not in shapes:
            wanted = " or ".join(map(str, shapes))
            raise ValueError(f"{op}: {name} has shape {array.shape}, expected {wanted}")
