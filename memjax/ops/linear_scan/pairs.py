"""Real and complex numbers as tuples of real arrays, (re,) or (re, im): kernels have no complex type.

Split and joined outside a kernel: XLA reads or writes a complex array once more for it, fused with what stands beside.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

Number = tuple[Any, ...]


def split(x: jax.Array) -> Number:
    """The parts of an array."""
    return (x.real, x.imag) if jnp.iscomplexobj(x) else (x,)


def join(parts: Number) -> jax.Array:
    """The array of these parts."""
    return parts[0] if len(parts) == 1 else jax.lax.complex(*parts)


def parts_of(shape: Sequence[int], dtype: Any) -> Number:
    """The parts of an array of this shape and dtype, as `jax.ShapeDtypeStruct`."""
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return (jax.ShapeDtypeStruct(shape, jnp.finfo(dtype).dtype),) * 2
    return (jax.ShapeDtypeStruct(shape, dtype),)


def constant(value: int, like: Number) -> Number:
    """A real number, in as many parts and as large as `like`."""
    return tuple(jnp.full_like(part, value if i == 0 else 0) for i, part in enumerate(like))


def each(function: Callable, *numbers: Number) -> Number:
    """The function of each part."""
    return tuple(map(function, *numbers))


def plus(a: Number, b: Number) -> Number:
    """The sum of two numbers of as many parts."""
    return each(_plus, a, b)


def times(a: Number, b: Number) -> Number:
    """The product of two numbers, complex if they have two parts."""
    if len(a) == 1:
        return (_times(a[0], b[0]),)
    real = _direct(jax.lax.sub, jnp.subtract, _times(a[0], b[0]), _times(a[1], b[1]))
    return real, _plus(_times(a[0], b[1]), _times(a[1], b[0]))


def where(condition: Any, a: Number, b: Number) -> Number:
    """`a` where the condition holds, else `b`."""
    return each(lambda a, b: _direct(jax.lax.select, jnp.where, condition, a, b), a, b)


def _plus(a, b):
    return _direct(jax.lax.add, jnp.add, a, b)


def _times(a, b):
    return _direct(jax.lax.mul, jnp.multiply, a, b)


def _direct(primitive, function, *arrays):
    """Of arrays of one shape the primitive: every program traces the kernels of all platforms, and the functions of
    jax.numpy take ten times as long to trace."""
    return (primitive if len({jnp.shape(x) for x in arrays}) == 1 else function)(*arrays)
