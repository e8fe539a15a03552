"""What every implementation of the linear scan is held to: values and all gradients against float64."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from memjax.ops import linear_scan
from tests.ops.packing import packing
from tests.tolerances import assert_close


@dataclasses.dataclass(frozen=True)
class Case:
    """One problem. `complex`: which inputs are; `moduli`: decays have a modulus drawn from these."""

    time: int
    batch: int = 2
    width: int = 5
    complex: tuple[str, ...] = ()
    moduli: tuple[float, ...] = (0.0, 0.5, 0.9, 0.999, 1.0)
    constant: bool = False
    reverse: bool = False
    packed: bool = False
    dtype: str = "float32"

    def __str__(self):
        changed = [f for f in dataclasses.fields(self) if getattr(self, f.name) != f.default]
        return "-".join(f"{f.name}={getattr(self, f.name)}" for f in changed).replace(" ", "")


def draw(case: Case, rng: np.random.Generator) -> dict[str, Any]:
    """float64 or complex128 inputs, representable in the case's dtype, so that only the computation differs."""
    full, row = (case.batch, case.time, case.width), (case.batch, case.width)
    shapes = {"decay": row[1:] if case.constant else full, "x": full, "initial_state": row}
    inputs = {}
    for name, shape in shapes.items():
        values = rng.choice(case.moduli, size=shape) if name == "decay" else rng.normal(size=shape)
        if name in case.complex:
            values = values * np.exp(1j * rng.uniform(-np.pi, np.pi, size=shape))
            inputs[name] = values.astype(np.complex64).astype(np.complex128)
        else:
            dtype = case.dtype if name == "x" else "float32"
            inputs[name] = np.asarray(jnp.asarray(values, dtype), np.float64)
    return inputs


def outputs_and_gradients(case, inputs, segments, weights, run, narrow):
    """(h, last) and the gradient of the real part of a random linear function of both, for every input."""
    wide = np.promote_types(narrow, np.float32) if narrow != "bfloat16" else np.dtype(np.float32)
    arrays = {}
    for name, values in inputs.items():
        kept = narrow if name == "x" else wide
        arrays[name] = jnp.asarray(values, np.result_type(wide, np.complex64) if name in case.complex else kept)

    def objective(arrays):
        h, last = run(
            arrays["decay"],
            arrays["x"],
            initial_state=arrays["initial_state"],
            segment_ids=None if segments is None else jnp.asarray(segments),
            reverse=case.reverse,
        )
        h = h.astype(last.dtype)
        weigh = lambda y, w: (y * jnp.asarray(w if case.complex else w.real, y.dtype)).real.sum()
        return weigh(h, weights[0]) + weigh(last, weights[1]), (h, last)

    (_, outputs), gradients = jax.jit(jax.value_and_grad(objective, has_aux=True))(arrays)
    return jax.tree.map(np.asarray, (outputs, gradients))


@functools.cache
def problem(case: Case):
    """Inputs, segment ids and weights of the outputs, with the outputs and gradients in float64."""
    rng = np.random.default_rng(case.time + case.width)
    inputs, segments = draw(case, rng), packing(case, rng)
    weights = [rng.normal(size=s) + 1j * rng.normal(size=s) for s in (inputs["x"].shape, inputs["x"][:, 0].shape)]
    reference = lambda *x, **more: linear_scan(*x, **more, implementation="reference")
    with jax.enable_x64(True):
        return inputs, segments, weights, outputs_and_gradients(case, inputs, segments, weights, reference, "float64")


def check(case: Case, run=linear_scan) -> None:
    *inputs, expected = problem(case)
    actual = outputs_and_gradients(case, *inputs, run, case.dtype)
    assert_close(actual[0], expected[0], dtype=case.dtype)
    assert_close(actual[1], expected[1], dtype=case.dtype, gradient=True)


ALL = ("decay", "x", "initial_state")
CASES = [
    Case(1),
    Case(1, constant=True, reverse=True, complex=ALL),
    Case(2, packed=True),
    Case(63, reverse=True),
    Case(64, constant=True),
    Case(65, complex=ALL),
    Case(65, constant=True, reverse=True, complex=ALL),
    Case(63, complex=("decay",)),
    Case(63, complex=("x",), constant=True),
    Case(1000),
    Case(1000, reverse=True, packed=True),
    Case(1000, packed=True, complex=ALL),
    Case(1000, constant=True, moduli=(0.999, 1.0)),
    Case(1000, constant=True, packed=True, reverse=True, complex=ALL, moduli=(0.5, 0.999)),
    Case(130, batch=3, dtype="bfloat16"),
    Case(130, dtype="bfloat16", packed=True, reverse=True, constant=True),
]
