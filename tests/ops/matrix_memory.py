"""What every implementation of an op with a matrix a head is held to: values and all gradients against float64."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from memjax.ops import gated_delta_rule, gated_linear_attention
from tests.ops.packing import packing
from tests.tolerances import assert_close

INPUTS = {
    gated_delta_rule: ("q", "k", "v", "log_decay", "beta"),
    gated_linear_attention: ("q", "k", "v", "log_decay"),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One problem. `strengths`: log-decays are drawn from their negatives; `beta` its largest value."""

    time: int
    batch: int = 1
    heads: int = 1
    groups: int = 1
    keys: int = 16
    values: int = 16
    gate: str = "scalar"
    strengths: tuple[float, ...] = (0.01, 1.0)
    beta: float = 1.0
    packed: bool = False
    same_keys: bool = False
    dtype: str = "float32"

    def __str__(self):
        changed = [f for f in dataclasses.fields(self) if getattr(self, f.name) != f.default]
        return "-".join(f"{f.name}={getattr(self, f.name)}" for f in changed).replace(" ", "")


def draw(op: Callable, case: Case, rng: np.random.Generator) -> dict[str, Any]:
    """float64 inputs, representable in the case's dtype, so that only the computation differs."""
    lead, state = (case.batch, case.time), (case.batch, case.groups, case.keys, case.values)
    k = rng.normal(size=(case.batch, 1 if case.same_keys else case.time, case.heads, case.keys))
    k = np.broadcast_to(k / np.linalg.norm(k, axis=-1, keepdims=True), (*lead, case.heads, case.keys))
    gate_shape = {"none": None, "scalar": (*lead, case.groups), "channel": (*lead, case.groups, case.keys)}[case.gate]
    inputs = {
        "q": rng.normal(size=k.shape),
        "k": k,
        "v": rng.normal(size=(*lead, case.groups, case.values)),
        "log_decay": None if gate_shape is None else -rng.choice(case.strengths, size=gate_shape),
        "beta": rng.uniform(0, case.beta, size=(*lead, case.groups)),
        "initial_state": rng.normal(size=state),
    }
    return {
        n: None
        if x is None
        else np.asarray(jnp.asarray(x, case.dtype), np.float64)
        if n in "qkv"
        else np.asarray(np.asarray(x, np.float32), np.float64)
        for n, x in inputs.items()
        if n in (*INPUTS[op], "initial_state")
    }


def outputs_and_gradients(op, inputs, segments, weights, implementation, dtype, narrow=""):
    """(o, final state) and the gradient of a random linear function of both, for every float input; of q, k and v those
    in `narrow` are bfloat16."""
    dtypes = dict.fromkeys("qkv", dtype) | dict.fromkeys(narrow, "bfloat16")
    arrays = {
        n: jnp.asarray(x, dtypes.get(n, jnp.promote_types(dtype, "float32")))
        for n, x in inputs.items()
        if x is not None
    }
    live = 1.0 if segments is None else jnp.asarray(segments > 0)[..., None, None]

    def objective(arrays):
        o, final = op(
            *(arrays.get(n) for n in INPUTS[op]),
            initial_state=arrays["initial_state"],
            segment_ids=None if segments is None else jnp.asarray(segments),
            implementation=implementation,
        )
        wide = o.astype(jnp.promote_types(o.dtype, "float32")) * live
        total = (wide * jnp.asarray(weights[0], wide.dtype)).sum() + (
            final * jnp.asarray(weights[1], final.dtype)
        ).sum()
        return total, (wide, final)

    (_, outputs), gradients = jax.jit(jax.value_and_grad(objective, has_aux=True))(arrays)
    return jax.tree.map(np.asarray, (outputs, gradients))


def check(op: Callable, case: Case, implementation: str) -> None:
    rng = np.random.default_rng(case.time + case.keys)
    inputs, segments = draw(op, case, rng), packing(case, rng)
    weights = (
        rng.normal(size=(case.batch, case.time, case.groups, case.values)),
        rng.normal(size=inputs["initial_state"].shape),
    )
    with jax.enable_x64(True):
        expected = outputs_and_gradients(op, inputs, segments, weights, "reference", "float64")
    actual = outputs_and_gradients(op, inputs, segments, weights, implementation, case.dtype)
    assert_close(actual[0], expected[0], dtype=case.dtype)
    assert_close(actual[1], expected[1], dtype=case.dtype, gradient=True)
