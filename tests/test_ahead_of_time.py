"""The helper itself: what it counts as a kernel, and that the compilers behind it refuse what a chip would."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from tests.ahead_of_time import CHIPS, TPUS, compile_for, kernels_in, topology

pytestmark = pytest.mark.aot

X = jax.ShapeDtypeStruct((64, 256), jnp.float32)


def double(x, block=(8, 128)):
    """The smallest kernel of a TPU: 2 x."""

    def body(x_ref, out_ref):
        out_ref[...] = 2 * x_ref[...]

    spec = pl.BlockSpec(block, lambda i, j: (i, j))
    return pl.pallas_call(
        body,
        grid=(x.shape[0] // block[0], x.shape[1] // block[1]),
        in_specs=[spec],
        out_specs=spec,
        out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel")),
    )(x)


@pytest.mark.parametrize("chip", CHIPS)
def test_a_program_without_a_kernel_has_none(chip):
    compiled = compile_for(chip, lambda x: jnp.tanh(x) @ x.T, X)
    assert kernels_in(compiled) == 0
    assert compiled.memory_analysis().argument_size_in_bytes == 64 * 256 * 4


@pytest.mark.parametrize("chip", TPUS)
def test_each_call_of_a_kernel_counts(chip):
    assert kernels_in(compile_for(chip, double, X)) == 1
    assert kernels_in(compile_for(chip, lambda x: double(double(x) + 1), X)) == 2


def test_a_block_that_no_tpu_can_load_is_refused():
    """Interpreted on a CPU the same block passes, so that only a compiler shows it."""
    topology("v5e")  # skips here, so that what is raised below is the refusal
    with pytest.raises(ValueError, match="divisible by 8 and 128"):
        compile_for("v5e", lambda x: double(x, block=(8, 64)), X)


def test_a_kernel_of_a_gpu_counts_too():
    """Mosaic GPU through `plgpu.kernel`, one warpgroup that copies a row."""
    topology("h200")
    from jax.experimental.pallas import mosaic_gpu as plgpu

    def body(x_ref, out_ref):
        out_ref[...] = x_ref[...] * 2

    call = plgpu.kernel(body, out_type=jax.ShapeDtypeStruct((128,), jnp.float32))
    row = jax.ShapeDtypeStruct((128,), jnp.float32)
    assert kernels_in(compile_for("h200", call, row)) == 1
    assert kernels_in(compile_for("h200", lambda x: call(call(x) + 1), row)) == 2
