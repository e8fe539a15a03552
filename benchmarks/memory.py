"""Temporary memory of the op's forward + backward, as the compiler plans it (nothing is run)."""

import jax
import jax.numpy as jnp

from benchmarks import op
from benchmarks.report import Result


def run(shape: op.Shape = op.SHAPE) -> Result:
    """Bytes of arguments, results and temporaries at the op's shape."""
    arrays, cotangent = op.inputs(shape)
    arguments = [jax.ShapeDtypeStruct(x.shape, jnp.float32) for x in (*arrays, cotangent)]
    plan = jax.jit(op.gradient_of()).lower(*arguments).compile().memory_analysis()
    if plan is None:
        raise ValueError("this backend does not tell how much memory a program needs")
    sizes = {
        "arguments": plan.argument_size_in_bytes,
        "gradients": plan.output_size_in_bytes,
        "temporaries": plan.temp_size_in_bytes,
    }
    rows = [{"gradient": name, "bytes": size, "MiB": size / 2**20} for name, size in sizes.items()]
    note = f"  temporaries are {sizes['temporaries'] / sizes['arguments']:.2f} times the arguments"
    return Result("memory", f"gated delta rule, forward + backward, {shape}", rows, (note,))
