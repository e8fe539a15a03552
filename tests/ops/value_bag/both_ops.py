"""The value bag and its dots with their gradients, and what float64 says of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.ops import row_dots, value_bag
from tests.ops.value_bag.cases import by_hand, dots_by_hand


def bag(values, indices, weights, cotangent, *, implementation=None):
    """Output, and the gradients of values and weights."""
    o, pull = jax.vjp(lambda v, w: value_bag(v, indices, w, implementation=implementation), values, weights)
    return o, *pull(cotangent.astype(o.dtype))


def dots(values, indices, weights, x, *, implementation=None):
    """Dots, and the gradients of values and x; weights are the cotangent."""
    s, pull = jax.vjp(lambda v, x: row_dots(v, indices, x, implementation=implementation), values, x)
    return s, *pull(weights.astype(s.dtype))


def expected(op, *inputs):
    """Of one of these, in float64."""
    values, indices, weights, x = (np.asarray(a, np.int32 if a.dtype == jnp.int32 else float) for a in inputs)
    return by_hand(values, indices, weights, x) if op is bag else dots_by_hand(values, indices, x, weights)


OPS = pytest.mark.parametrize("op", [bag, dots], ids=lambda op: op.__name__)


def shapes(rows=65536, width=256, tokens=1024, reads=128, dtype=jnp.float32):
    """Arguments of both, and no memory."""
    shape = jax.ShapeDtypeStruct
    return (
        shape((rows, width), dtype),
        shape((tokens, reads), jnp.int32),
        shape((tokens, reads), dtype),
        shape((tokens, width), dtype),
    )


def three_kernels(values, indices, weights, x):
    """The bag, the gradient of its weights, and other dots; not the table's gradient."""
    o, pull = jax.vjp(lambda w: value_bag(values, indices, w), weights)
    return o, *pull(x), row_dots(values, indices, 2 * x)
