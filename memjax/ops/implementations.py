"""The choice between the implementations of an op, and the check of its arguments' shapes."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import jax

Implementation = Literal["reference", "xla", "pallas_tpu", "pallas_gpu"]
PLATFORMS = {"pallas_tpu": "tpu", "pallas_gpu": "cuda"}
"""Kernels, and what a program is lowered for where they run."""


def serving(op: str, implementation: str | None, refusals: Mapping[str, str | None]) -> tuple[str, ...]:
    """The kernels that may run: the one named, or with None all that can serve; none for "reference" and "xla".

    Args:
        op: its name.
        implementation: as the ops document it.
        refusals: for each kernel that the op has why it cannot serve these arguments, None where it can.

    Raises ValueError for an unknown name and NotImplementedError where the named kernel cannot serve.
    """
    known = ("reference", "xla", *PLATFORMS)
    if implementation is not None and implementation not in known:
        raise ValueError(f"unknown implementation {implementation!r}; one of {', '.join(known)}")
    if implementation is None:
        return tuple(name for name, refusal in refusals.items() if refusal is None)
    if implementation not in PLATFORMS:
        return ()
    refusal = refusals.get(implementation, "the op has no such kernel")
    if refusal is not None:
        raise NotImplementedError(f"{op}: {implementation!r} cannot serve: {refusal}; use 'xla' or None")
    return (implementation,)


def no_hopper() -> str | None:
    """Why no kernel for Hopper GPUs can run in this process, None where one can, or where a program may be compiled for
    another machine's GPU."""
    if jax.__version_info__ < (0, 11):
        return "it needs jax 0.11"
    if jax.default_backend() != "gpu":
        return None
    hopper = (getattr(device, "compute_capability", None) == "9.0" for device in jax.local_devices())
    return None if all(hopper) else "the GPU here is no Hopper"


def run(
    implementation: str | None,
    kernels: Mapping[str, Callable],
    xla: Mapping[str, Callable],
    *inputs: Any,
) -> Any:
    """Runs on `inputs` what is named; with None what suits the platform that the program is lowered for.

    Args:
        implementation: "xla", the name of a kernel, or None.
        kernels: of those that are `serving`, a function of the inputs and the keyword `interpret`. A named one that
            is lowered for a CPU runs interpreted.
        xla: {"cpu": function of the inputs, "default": ...}.
    """
    if implementation in PLATFORMS:
        kernel = kernels[implementation]
        if implementation == "pallas_gpu":
            # What interprets it has an ordered effect, and jax fails to lower a choice by platform when another form
            # than that is taken. So the process decides; to compile for a GPU ahead of time on another host, give None.
            return kernel(*inputs, interpret=jax.default_backend() == "cpu")
        forms = {"cpu": partial(kernel, interpret=True), "default": partial(kernel, interpret=False)}
    else:
        forms = dict(xla)
        if implementation is None:
            forms |= {PLATFORMS[name]: partial(kernel, interpret=False) for name, kernel in kernels.items()}
    return jax.lax.platform_dependent(*inputs, **forms)


def check_shapes(op: str, expected: Mapping[str, tuple[Any, Sequence[tuple[int, ...]]]]) -> None:
    """Raises ValueError for the first array, by its name, that has none of its shapes; None fits everywhere."""
    for name, (array, shapes) in expected.items():
        if array is not None and array.shape not in shapes:
            wanted = " or ".join(map(str, shapes))
            raise ValueError(f"{op}: {name} has shape {array.shape}, expected {wanted}")
