"""The value bag: the weighted sum of a few rows of a table, for every token.

    o[t] = sum_j weights[t, j] values[indices[t, j]]

The read of a memory layer (Lample et al., arXiv 1907.05242; Berges et al., arXiv 2412.09764), elsewhere called an
embedding bag. With g[t] the cotangent of o[t],

    d weights[t, j] = <values[indices[t, j]], g[t]>
    d values[m]     = sum of weights[t, j] g[t] over the reads (t, j) with indices[t, j] = m

where the latter is nonzero on min(M, T J) rows at most. `row_gradients` gives just those, for an optimizer that touches
no others; differentiating `value_bag` gives the dense one.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from memjax.ops import implementations
from memjax.ops.implementations import Implementation as Implementation
from memjax.ops.value_bag import gradients, reference, xla

_IMPLEMENTATIONS = {"reference": reference.value_bag, "xla": xla.value_bag}


def value_bag(
    values: Float[Array, "M V"],
    indices: Int[Array, "*lead J"],
    weights: Float[Array, "*lead J"],
    *,
    implementation: Implementation | None = None,
) -> Float[Array, "*lead V"]:
    """Sums J weighted rows a token, in float32 (float64 as soon as an input is), rounded once.

    The XLA form and its gradient hold no array of T J rows: rows are read a few a token at a time, and the table's
    gradient is summed row by row from the sorted reads, in an order that does not change from run to run. Under
    `jax.jit` a table that is not differentiated costs nothing in the backward. The XLA form has first derivatives in
    reverse mode; "reference" has all.

    Args:
        values: the table [M, V].
        indices: rows [..., J], any integers. A number that is not in 0 .. M - 1, a negative one too, reads nothing: its
            weight counts as zero and gets no gradient. A row may come several times; each read counts.
        weights: [..., J].
        implementation: "reference" (all rows at once), "xla" (a few columns of `indices` at a time), None chooses.

    Returns:
        [..., V] in the dtype of values. The gradients are in the dtypes of what they belong to.

    Raises:
        ValueError: shapes that do not fit together, an empty table or bag (M = 0 or J = 0), M >= 2**31.
        NotImplementedError: a named implementation that cannot serve.
    """
    _check("value_bag", indices, values.shape[0], {"weights": (weights, [indices.shape])})
    run = implementations.choose("value_bag", implementation, _IMPLEMENTATIONS)
    *lead, bag = indices.shape
    flat = (math.prod(lead), bag)
    o = run(values, _in_table(indices, values.shape[0]).reshape(flat), weights.reshape(flat))
    return o.reshape(*lead, values.shape[1])


def row_gradients(
    indices: Int[Array, "*lead J"], weights: Float[Array, "*lead J"], cotangent: Float[Array, "*lead V"], rows: int
) -> tuple[Int[Array, " R"], Float[Array, "R V"]]:
    """The gradient of a table by `value_bag`, on the rows that were read and nowhere else. Not differentiable.

    Args:
        indices: as for `value_bag`.
        weights: as for `value_bag`.
        cotangent: gradient with respect to the output of `value_bag`, [..., V].
        rows: M, of the table.

    Returns:
        The rows that were read, if only with weight zero: [R] int32, ascending and each once, R = min(M, T J) for T J
        indices; and their gradients [R, V] in float32 (float64 as soon as an input is). Places that are left over, at
        the end, hold the row M and zeros.

    Raises:
        ValueError: shapes that do not fit together, M or J is 0, M >= 2**31.
    """
    *lead, bag = indices.shape
    expected = {"weights": (weights, [indices.shape]), "cotangent": (cotangent, [(*lead, *cotangent.shape[-1:])])}
    _check("row_gradients", indices, rows, expected)
    flat = (math.prod(lead), bag)
    g = cotangent.reshape(flat[0], cotangent.shape[-1])
    return gradients.sparse(_in_table(indices, rows).reshape(flat), weights.reshape(flat), g, rows)


def _in_table(indices, rows):
    """int32, with the number M for all that is outside 0 .. M - 1."""
    return jnp.where((indices >= 0) & (indices < rows), indices, rows).astype(jnp.int32)


def _check(op, indices, rows, expected):
    if not 1 <= rows < 2**31:
        raise ValueError(f"{op}: a table of {rows} rows, expected 1 .. 2**31 - 1")
    if not indices.ndim or not indices.shape[-1]:
        raise ValueError(f"{op}: indices has shape {indices.shape}, expected [..., J] with J >= 1")
    implementations.check_shapes(op, expected)
