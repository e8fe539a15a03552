"""What proofs of kernels have in common."""

import base64
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def products_of(function: Callable, *arguments: Any) -> Iterator[Any]:
    """Every dot of the kernels that `function` calls, as an equation of their programs."""

    def walk(jaxpr, inside):
        for equation in jaxpr.eqns:
            if inside and equation.primitive.name == "dot_general":
                yield equation
            for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from walk(inner, inside or equation.primitive.name == "pallas_call")

    yield from walk(jax.make_jaxpr(function)(*arguments).jaxpr, False)


def assert_float32_dots_are_exact(function: Callable, *arguments: Any) -> None:
    """Every dot of a kernel with a float32 operand names the highest precision, and there are some."""
    wide = [e for e in products_of(function, *arguments) if any(x.aval.dtype == jnp.float32 for x in e.invars)]
    assert len(wide) > 5
    highest = (jax.lax.Precision.HIGHEST,) * 2
    assert [e for e in wide if e.params["precision"] != highest] == []


def tpu_kernels(compiled: Any) -> list[bytes]:
    """The Mosaic programs inside a compiled one, serialised."""
    return [base64.b64decode(body) for body in re.findall(r'"body"\s*:\s*"([^"]+)"', compiled.as_text())]


def shapes(*arrays: Any) -> list[Any]:
    """(dims, dtype) or None as `jax.ShapeDtypeStruct`."""
    return [None if x is None else jax.ShapeDtypeStruct(*x) for x in arrays]


def on_mesh(function: Callable, axes: dict[str, int], *arguments: Any) -> Any:
    """`function` under a mesh of eight CPU devices, compiled; the result on the host."""
    mesh = jax.make_mesh(tuple(axes.values()), tuple(axes), axis_types=(jax.sharding.AxisType.Auto,) * len(axes))
    with jax.set_mesh(mesh):
        return jax.tree.map(np.asarray, jax.jit(function)(*arguments))
