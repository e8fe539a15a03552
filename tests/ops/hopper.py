"""What the Hopper kernels of both ops with a matrix a head are held to."""

import contextlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.ops import gated_delta_rule, gated_linear_attention
from memjax.ops.gated_delta_rule import pallas_gpu as delta_kernel
from memjax.ops.gated_linear_attention import pallas_gpu as linear_kernel
from tests.ahead_of_time import compile_for
from tests.ops import matrix_memory
from tests.ops.matrix_memory import INPUTS, draw, outputs_and_gradients
from tests.ops.matrix_memory_kernels import inputs_of
from tests.ops.packing import packing
from tests.tolerances import assert_close, relative_rms

needs_simulator = pytest.mark.skipif(jax.__version_info__ < (0, 11), reason="no Mosaic GPU simulator before jax 0.11")
KERNELS = {gated_delta_rule: delta_kernel, gated_linear_attention: linear_kernel}


@contextlib.contextmanager
def quick_compile():
    """What takes time in the simulator is XLA, which compiles the simulation."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def check(op, case: matrix_memory.Case, narrow: str = "") -> None:
    """Values and all gradients of a case against float64. float32 results are held to what two bfloat16 parts keep; the
    others to a fifth of what bfloat16 is allowed, which is its own rounding. Inputs in `narrow` are bfloat16."""
    rng = np.random.default_rng(case.time + case.keys)
    inputs, docs = draw(op, case, rng), packing(case, rng)
    rounded = lambda x, dtype: np.asarray(jnp.asarray(x, dtype), float)
    inputs |= {n: rounded(inputs[n], "bfloat16") for n in narrow}
    d_o, d_final = rng.normal(size=inputs["v"].shape), rng.normal(size=inputs["initial_state"].shape)
    weights = (rounded(d_o, "bfloat16" if "v" in narrow else case.dtype), d_final)
    with jax.enable_x64(True):
        expected = outputs_and_gradients(op, inputs, docs, weights, "reference", "float64")
    with quick_compile():
        actual = outputs_and_gradients(op, inputs, docs, weights, "pallas_gpu", case.dtype, narrow)
    assert_close(actual[0], expected[0], dtype="bfloat16", factor=0.2)
    assert_close(actual[1], expected[1], dtype="bfloat16", gradient=True, factor=0.1)
    (o, final), gradients = actual
    found = {"final": final} | {name: x for name, x in gradients.items() if x.dtype == np.float32}
    found |= {"o": o} if "v" in found else {}
    known = expected[1] | dict(zip(("o", "final"), expected[0], strict=True))
    for name, x in found.items():
        assert relative_rms(x, known[name]) < 1e-4, name


def simulated(op, case: matrix_memory.Case, simulator) -> list:
    """All outputs and gradients of an op's two passes in a simulator of one's own."""
    *inputs, state, index = inputs_of(op, case)
    inputs = [x.astype(jnp.bfloat16) if n < 3 else x for n, x in enumerate(inputs)]
    run = lambda direction: partial(getattr(KERNELS[op], direction), scale=0.1, interpret=simulator)

    @jax.jit
    def both(*inputs):
        o, final, *kept = run("forward")(*inputs, index)
        return o, final, run("backward")(*inputs, index, *kept, o, final)

    with quick_compile():
        return jax.tree.leaves(both(*inputs, state))


Case = partial(matrix_memory.Case, keys=64, values=64, dtype="bfloat16")


def shapes(op, case: matrix_memory.Case) -> list:
    """The op's inputs as shapes."""
    lead = (case.batch, case.time)
    gate = {"none": None, "scalar": (*lead, case.groups), "channel": (*lead, case.groups, case.keys)}[case.gate]
    known = {
        "q": jax.ShapeDtypeStruct((*lead, case.heads, case.keys), case.dtype),
        "k": jax.ShapeDtypeStruct((*lead, case.heads, case.keys), case.dtype),
        "v": jax.ShapeDtypeStruct((*lead, case.groups, case.values), case.dtype),
        "log_decay": None if gate is None else jax.ShapeDtypeStruct(gate, jnp.float32),
        "beta": jax.ShapeDtypeStruct((*lead, case.groups), jnp.float32),
    }
    return [known[name] for name in INPUTS[op]]


def compile_passes(op, case: matrix_memory.Case, backward: bool = True) -> list:
    """The forward pass compiled for an H200, and the backward pass."""
    arrays, float32 = shapes(op, case), partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    state = float32((case.batch, case.groups, case.keys, case.values))
    index = jax.ShapeDtypeStruct((case.batch, case.time), jnp.int32) if case.packed else None
    inverse = [float32((-(-case.time // 64), case.batch, case.groups, 64, 64))] if op is gated_delta_rule else []
    options = {"scale": 0.1, "interpret": False}
    passes = [(KERNELS[op].forward, ())]
    passes += [(KERNELS[op].backward, (*inverse, arrays[2], state))] if backward else []
    given = (*arrays, state, index)
    return [compile_for("h200", partial(run, **options), *given, *more) for run, more in passes]
