"""Proofs that the kernels of both ops with a matrix a head are held to."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas import tpu as pltpu

from memjax.ops import gated_delta_rule, matrix_memory
from tests.ops.matrix_memory import INPUTS, Case, draw
from tests.ops.packing import packing
from tests.ops.pallas import on_mesh, shapes
from tests.tolerances import assert_close


def gradient(op, *, implementation=None):
    """A function of the op's inputs to all its gradients, of the sum of squares of its outputs."""

    def loss(*inputs):
        o, final = op(*inputs, implementation=implementation)
        return (o.astype(jnp.float32) ** 2).sum() + (final**2).sum()

    return jax.grad(loss, tuple(range(len(INPUTS[op]))))


def at_shape(op, batch, time, heads, groups, keys, values, gate="scalar"):
    """Abstract inputs of an op in bfloat16."""
    lead, narrow, wide = (batch, time), jnp.bfloat16, jnp.float32
    gates = {"scalar": (*lead, groups), "channel": (*lead, groups, keys)}[gate]
    inputs = [((*lead, heads, keys), narrow)] * 2 + [((*lead, groups, values), narrow), (gates, wide)]
    return shapes(*inputs, *[((*lead, groups), wide)] * (op is gated_delta_rule))


def inputs_of(op, case: Case) -> list[Any]:
    """float32 arrays: the op's inputs in order, the initial state and the documents' numbers."""
    rng = np.random.default_rng(0)
    drawn, ids = draw(op, case, rng), packing(case, rng)
    arrays = {n: None if x is None else jnp.asarray(x, jnp.float32) for n, x in drawn.items()}
    values = [arrays[n] for n in INPUTS[op]]
    ids = None if ids is None else jnp.asarray(ids)
    x = matrix_memory.prepare(*values[:4], arrays["initial_state"], ids)
    return [*x[:4], *values[4:], x.initial_state, None if x.docs is None else x.docs.index]


def check_in_the_tpu_interpreter(op, back_end, xla, case: Case) -> None:
    """Values and gradients as XLA's, where memory that nobody wrote is NaN and a race is an error."""
    simulator = pltpu.InterpretParams(detect_races=True, uninitialized_memory="nan", out_of_bounds_reads="raise")
    inputs, scale = inputs_of(op, case), case.keys**-0.5
    actual = back_end.forward(*inputs, scale=scale, interpret=simulator)
    expected = jax.jit(lambda *x: xla.forward(*x, scale=scale))(*inputs)
    assert_close(actual, expected)
    saved = (*inputs, *expected[2:], *expected[:2])
    actual = back_end.backward(*saved, scale=scale, interpret=simulator)
    expected = jax.jit(lambda *x: xla.backward(*x, scale=scale))(*saved)
    assert_close(actual, expected, gradient=True)


def check_eight_devices_are_one(op, implementation, case: Case) -> None:
    *inputs, _, _ = inputs_of(op, case)
    function = gradient(op, implementation=implementation)
    expected = jax.tree.map(np.asarray, jax.jit(function)(*inputs))
    actual = on_mesh(function, {"data": 2, "fsdp": 2, "tensor": 2}, *inputs)
    assert_close(actual, expected, gradient=True)
