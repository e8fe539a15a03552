"""How close is close: one measure and one table for every test of numerics.

The measure is RMS(actual - expected) / RMS(expected), so that one number serves outputs of every size; `expected` is
the better-known side, float64 where a test can have it.
"""

from typing import Any

import jax
import numpy as np

# Largest relative RMS error against a float64 result, by the dtype that was computed in. A few roundings of the
# dtype accumulate along T; the worst of the lengths and gates that the tests go through stays below.
TOLERANCES = {"float64": 1e-10, "complex128": 1e-10, "float32": 1e-5, "complex64": 1e-5, "bfloat16": 2e-2}
# The same for gradients, which pass through the forward and the backward computation.
GRADIENT_TOLERANCES = {"float64": 1e-9, "complex128": 1e-9, "float32": 1e-5, "complex64": 1e-5, "bfloat16": 4e-2}


def relative_rms(actual: Any, expected: Any) -> float:
    """RMS(actual - expected) / RMS(expected); where `expected` is zero everywhere, the RMS of `actual` itself."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"shapes {actual.shape} and {expected.shape}"
    wide = np.result_type(expected.dtype if expected.dtype.kind == "c" else np.float64, np.float64)
    actual, expected = actual.astype(wide), expected.astype(wide)
    if not expected.size:
        return 0.0
    error, size = (float(np.sqrt(np.mean(np.abs(x) ** 2))) for x in (actual - expected, expected))
    return error / size if size else error


def assert_close(actual: Any, expected: Any, *, dtype: Any = None, gradient: bool = False, factor: float = 1.0) -> None:
    """Holds every leaf of `actual` to the table.

    Args:
        actual: array or pytree of arrays.
        expected: the same structure.
        dtype: row of the table; the dtype of each leaf of `actual` when None.
        gradient: take the table of gradients.
        factor: multiplies the tolerance; a test that gives one says why.
    """
    table = GRADIENT_TOLERANCES if gradient else TOLERANCES
    assert jax.tree.structure(actual) == jax.tree.structure(expected), "the structures differ"
    pairs = zip(jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True)
    for (path, left), right in pairs:
        if np.issubdtype(np.asarray(right).dtype, np.integer):
            np.testing.assert_array_equal(left, right, err_msg=jax.tree_util.keystr(path))
            continue
        limit = factor * table[str(np.dtype(dtype or np.asarray(left).dtype))]
        error = relative_rms(left, right)
        name = jax.tree_util.keystr(path) or "the array"
        # written so that a NaN fails
        assert error <= limit, f"{name}: relative RMS error {error:.3g}, tolerance {limit:.3g}"
