"""The value bag: the weighted sum of a few rows of a table, for every token.

    o[t] = sum_j weights[t, j] values[indices[t, j]]

The read of a memory layer (Lample et al., arXiv 1907.05242; Berges et al., arXiv 2412.09764), elsewhere called an
embedding bag. With g[t] the cotangent of o[t],

    d weights[t, j] = <values[indices[t, j]], g[t]>
    d values[m]     = sum of weights[t, j] g[t] over the reads (t, j) with indices[t, j] = m

where the latter is nonzero on min(M, T J) rows at most. `row_gradients` gives just those, for an optimizer that touches
no others; differentiating `value_bag` gives the dense one. The former is an op as well, `row_dots`.

Under a mesh (`jax.set_mesh`) the ops of this folder work on a table whose rows lie over `fsdp` and whose width over
`tensor`, see `sharded`.
"""

import math

from jaxtyping import Array, Float, Int

from memjax.ops.implementations import PLATFORMS
from memjax.ops.implementations import Implementation as Implementation
from memjax.ops.value_bag import differentiable, reference, sharded
from memjax.ops.value_bag.checks import check, check_stack, in_stack, in_table
from memjax.ops.value_bag.rows import put_rows as put_rows
from memjax.ops.value_bag.rows import row_gradients as row_gradients
from memjax.ops.value_bag.rows import take_rows as take_rows


def value_bag(
    values: Float[Array, "*stack M V"],
    indices: Int[Array, "*lead J"],
    weights: Float[Array, "*lead J"],
    *,
    layer: Int[Array, ""] | int | None = None,
    implementation: Implementation | None = None,
) -> Float[Array, "*lead V"]:
    """Sums J weighted rows a token, in float32 (float64 as soon as an input is), rounded once.

    The XLA form, the kernels and their gradients hold no array of T J rows: rows are read a few a token at a time, and
    the table's gradient is summed row by row from the sorted reads, in an order that does not change from run to run.
    Under `jax.jit` a table that is not differentiated costs nothing in the backward. These have first derivatives in
    reverse mode; "reference" has all. Kernels need V a multiple of 128 and a table in float32 or bfloat16.

    Args:
        values: the table [M, V], or a stack of tables [R, M, V] of which `layer` is read where it lies.
        indices: rows [..., J], any integers. A number that is not in 0 .. M - 1, a negative one too, reads nothing: its
            weight counts as zero and gets no gradient. A row may come several times; each read counts. Under a mesh the
            first axis is split over `data` and `fsdp`, if it divides.
        weights: [..., J].
        layer: number of the table in the stack, for a scan over layers; None: there is no stack.
        implementation: "reference" (all rows at once), "xla" (a few columns of `indices` at a time), "pallas_tpu" and
            "pallas_gpu" (kernels: many single rows on their way), None: a kernel on its platform, where it can serve
            and there is more than next to nothing to read (`differentiable.choose`), else "xla".

    Returns:
        [..., V] in the dtype of values. The gradients are in the dtypes of what they belong to.

    Raises:
        ValueError: shapes that do not fit together, an empty table or bag (M = 0 or J = 0), M >= 2**31.
        NotImplementedError: a named implementation that cannot serve.
    """
    check("value_bag", indices, values.shape[-2], {"weights": (weights, [indices.shape])})
    layer = check_stack("value_bag", values, layer)

    def by_token(values, layer, indices, weights, dtype):
        values, indices = in_stack(values, layer, indices)
        inputs = values, _flat(indices), _flat(weights)
        if implementation == "reference":
            o = reference.value_bag(*inputs, dtype)
        else:
            o = differentiable.value_bag(*inputs, dtype, differentiable.choose("value_bag", implementation, *inputs))
        return o.reshape(*indices.shape[:-1], values.shape[1])

    indices, check_vma = in_table(indices, values.shape[-2]), implementation not in PLATFORMS
    return sharded.value_bag(by_token, values, layer, indices, weights, check_vma=check_vma)


def row_dots(
    values: Float[Array, "*stack M V"],
    indices: Int[Array, "*lead J"],
    x: Float[Array, "*lead V"],
    *,
    layer: Int[Array, ""] | int | None = None,
    implementation: Implementation | None = None,
) -> Float[Array, "*lead J"]:
    """The products of J rows a token with the token's own vector, s[t, j] = <values[indices[t, j]], x[t]>.

    How PEER (He, arXiv 2407.04153) reads the down-projections of its single-neuron experts. With ds[t, j] the
    cotangent, d x = value_bag(values, indices, ds), and d values[m] is the sum of ds[t, j] x[t] over the reads of the
    row m: what `row_gradients(indices, ds, x, M)` gives on the rows that were read. Memory, order of sums and
    derivatives are those of `value_bag`.

    Args:
        values: the table [M, V], or a stack of tables as for `value_bag`.
        indices: rows [..., J], as for `value_bag`: a number that is not in 0 .. M - 1 gives 0 and gets no gradient.
        x: [..., V].
        layer: as for `value_bag`.
        implementation: "reference" (all rows at once), "xla" (a column of `indices` at a time), or as for `value_bag`.

    Returns:
        [..., J] in float32 (float64 as soon as an input is).

    Raises:
        ValueError, NotImplementedError: as `value_bag`.
    """
    expected = {"x": (x, [(*indices.shape[:-1], values.shape[-1])])}
    check("row_dots", indices, values.shape[-2], expected)
    layer = check_stack("row_dots", values, layer)

    def by_token(values, layer, indices, x):
        values, indices = in_stack(values, layer, indices)
        inputs = values, _flat(indices), _flat(x)
        if implementation == "reference":
            s = reference.row_dots(*inputs)
        else:
            s = differentiable.row_dots(*inputs, differentiable.choose("row_dots", implementation, *inputs))
        return s.reshape(indices.shape)

    indices, check_vma = in_table(indices, values.shape[-2]), implementation not in PLATFORMS
    return sharded.row_dots(by_token, values, layer, indices, x, check_vma=check_vma)


def _flat(x):
    """All axes but the last as one."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
