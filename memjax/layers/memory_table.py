"""The table of a memory layer, and how a layer reads it.

A table is a handful of arrays of M rows, each under its own name: the values that are summed, and in some
architectures the vectors that say how strongly. A layer owns one, or reads one that the model holds at its root for
several layers: `table=` of its call.

Taps. A table is the largest thing in a model and a step reads few of its rows, so training must not form its dense
gradient. A tap is a zero that is added to what a layer reads, the table being a constant meanwhile. The cotangent of
the tap and the `Read` that the layer reports are all that the gradient of the rows that were read is made of:

    d array[m] = sum of scores[t, j] vectors[t] over the reads (t, j) with indices[t, j] = m

which `memjax.ops.row_gradients` sums. A bag knows its scores (the weights) and its tap learns the vectors; for dot
products it is the other way round.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from memjax.ops import row_dots, value_bag

READS = "reads"  # key of `aux` under which a tapped layer reports {array: Read}


class Read(NamedTuple):
    """One read of an array of a table by a layer. The cotangent of its tap is what is None here.

    Attributes:
        indices: [..., J] rows.
        scores: [..., J].
        vectors: [..., V].
    """

    indices: Int[Array, "*lead J"]
    scores: Float[Array, "*lead J"] | None
    vectors: Float[Array, "*lead V"] | None


class MemoryTable(nnx.Module):
    """Arrays [rows, size] from normal distributions, as attributes under the names of `columns`."""

    def __init__(self, rows: int, columns: Mapping[str, tuple[int, float]], *, rngs: nnx.Rngs):
        """Draws {name: (size, standard deviation)}. Raises ValueError for a table without rows or columns."""
        if not 1 <= rows < 2**31 or any(size < 1 for size, _ in columns.values()):
            raise ValueError(f"a memory table of {rows} rows x {[size for size, _ in columns.values()]} channels")
        self.names = tuple(columns)
        for name, (size, std) in columns.items():
            setattr(self, name, nnx.Param(std * jax.random.normal(rngs.params(), (rows, size), jnp.float32)))

    def arrays(self) -> dict[str, Array]:
        """{name: [rows, size]}."""
        return {name: getattr(self, name)[...] for name in self.names}


class StackedTable(NamedTuple):
    """One table of a stack [R, M, V], read where it lies.

    Attributes:
        arrays: {name: [R, M, size]}.
        layer: int32 [], its number.
    """

    arrays: Mapping[str, Array]
    layer: Int[Array, ""]


class TableReader:
    """Reads a table for one call of a layer; `aux` has what a tapped call reports."""

    def __init__(self, own: MemoryTable | None, given: Any, taps: Mapping[str, Array] | None = None):
        """Args:
            own: the layer's table, None where it has none.
            given: a `MemoryTable` or `StackedTable`, arrays by name, or the one array of a table that has no other,
                which is then "values"; None: `own`.
            taps: {name: zeros of the shape of what is read}; None: the table is differentiated like any parameter.

        Raises ValueError where there is no table to read.
        """
        given = own if given is None else given
        if given is None:
            raise ValueError("this memory layer has no table of its own: pass table=, the one that it shares")
        self._layer = None
        if isinstance(given, StackedTable):
            given, self._layer = given.arrays, given.layer
        if isinstance(given, MemoryTable):
            given = given.arrays()
        self.arrays: dict[str, Any] = dict(given) if isinstance(given, Mapping) else {"values": given}
        self._taps, self._reads = taps, {}

    @property
    def rows(self) -> int:
        """M."""
        return next(iter(self.arrays.values())).shape[-2]

    @property
    def aux(self) -> dict[str, Any]:
        """{READS: {array: Read}} of what has been read with taps; empty without taps."""
        return {} if self._taps is None else {READS: self._reads}

    def bag(
        self, name: str, indices: Int[Array, "*lead J"], weights: Float[Array, "*lead J"]
    ) -> Float[Array, "*lead V"]:
        """sum_j weights[..., j] array[indices[..., j]], float32 or wider."""
        out = value_bag(self._array(name), indices, weights, layer=self._layer)
        return self._tapped(name, out, Read(indices, weights, None))

    def dots(self, name: str, indices: Int[Array, "*lead J"], x: Float[Array, "*lead V"]) -> Float[Array, "*lead J"]:
        """<array[indices[..., j]], x[...]>, float32 or wider."""
        return self._tapped(name, row_dots(self._array(name), indices, x, layer=self._layer), Read(indices, None, x))

    def _array(self, name):
        if name not in self.arrays:
            raise ValueError(f"this memory layer reads {name!r} of its table, which has {', '.join(self.arrays)}")
        array = self.arrays[name]
        return array if self._taps is None else jax.lax.stop_gradient(array)

    def _tapped(self, name, out, read):
        out = out.astype(jnp.promote_types(out.dtype, jnp.float32))
        if self._taps is None:
            return out
        self._reads[name] = read
        return out + self._taps[name].astype(out.dtype).reshape(out.shape)
