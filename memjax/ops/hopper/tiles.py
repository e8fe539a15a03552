"""Tiles of a Hopper kernel: operands that stay float32 by being two bfloat16, and products of them.

The tensor cores multiply bfloat16 and add in float32. A bfloat16 input is an exact operand; a float32 value goes in as
the sum of a high and a low part, 16 bits of its 24, and a product of two such values as three products (the fourth is
below the last bit that is kept). The relative error of a product is then near 2^-17, against 2^-9 for one part. Three
parts are all of a float32, and six products.
"""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

ROWS = 64
"""Tokens a chunk, channels a block of the state: the rows that one tensor-core instruction works on."""
MATRIX = plgpu.Layout.WGMMA
VECTOR = plgpu.Layout.WGMMA.reduce(1)
"""One number a row of a matrix."""
ACROSS = plgpu.Layout.WGMMA.reduce(0)
"""One number a column of a matrix."""


def shared(*shape: int, dtype: Any = jnp.bfloat16) -> Any:
    """A buffer in shared memory, in tiles that tensor cores and copy engine read without conflicts."""
    tile = plgpu.TilingTransform((8, 128 // jnp.dtype(dtype).itemsize))  # pyright: ignore[reportAbstractUsage]
    return plgpu.SMEM(shape, dtype, transforms=(tile, plgpu.SwizzleTransform(128)))  # pyright: ignore[reportAbstractUsage]


def split(x: jax.Array) -> jax.Array:
    """float32 x as [2, ...]: high and low part in bfloat16, outside a kernel."""
    high = jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)  # a cast and back may be optimised away
    return jnp.stack([high, x - high]).astype(jnp.bfloat16)


def operand(x: jax.Array) -> jax.Array:
    """An input led by its parts: bfloat16 is one, float32 two."""
    return x[None] if x.dtype == jnp.bfloat16 else split(x)


def whole(parts: jax.Array) -> jax.Array:
    """The inverse of `split`, from one part or two."""
    return parts.astype(jnp.float32).sum(0)


def put(parts: Any, x: jax.Array) -> jax.Array:
    """Stores x [M, N] of the registers as parts in a shared buffer [1 to 3, M, N]; `plgpu.commit_smem` makes it
    readable. Returns what they leave."""
    for i in range(parts.shape[0]):
        part = jax.lax.optimization_barrier(x.astype(jnp.bfloat16))
        _part(parts, i)[...] = part
        x = x - part.astype(jnp.float32)
    return x


def product(*terms: tuple[Any, Any]) -> jax.Array:
    """The sum of the products a b, float32 in registers, of pairs of shared operands a [parts, M, K] and
    b [parts, K, N], without the terms below the last part."""

    def run(total):
        for a, b in terms:
            for i, j in itertools.product(range(a.shape[0]), range(b.shape[0])):
                if i + j < max(a.shape[0], b.shape[0]):
                    plgpu.wgmma(total, _part(a, i), _part(b, j))
        return jax.lax.optimization_barrier(total[...])  # else LLVM may use it before the wait that is in it

    shape = (terms[0][0].shape[1], terms[0][1].shape[2])
    return pl.run_scoped(run, plgpu.WGMMAAccumulatorRef(shape, jnp.float32))


def _part(parts, i):
    """Part i of a shared buffer, by a number that LLVM does not know: it would else compute the addresses of all tiles
    of all products before the loop, and keep them, 144 of two registers each at 256 key channels."""
    return parts.at[jax.lax.optimization_barrier(jnp.int32(i))]


def transposed(parts: Any) -> Any:
    """Each of the parts [P, M, N] of a tile, turned; only how it is read changes."""
    return parts.transpose((0, 2, 1))


def load(tile: Any) -> jax.Array:
    """A shared tile [64, 64] in registers, float32."""
    return read(tile, MATRIX).astype(jnp.float32)


def total(parts: Any) -> jax.Array:
    """The same of the parts [P, 64, 64] of a tile."""
    return functools.reduce(jnp.add, (load(parts.at[i]) for i in range(parts.shape[0])))


def read(ref: Any, layout: Any, **options: Any) -> jax.Array:
    """All of a reference in registers."""
    return plgpu.load(ref, layout=layout, **options)  # pyright: ignore[reportCallIssue]  (an older jax asks for idx)


def zeros() -> jax.Array:
    """A tile [64, 64] of zeros in registers, float32, laid out as products leave theirs."""
    return plgpu.layout_cast(jnp.zeros((ROWS, ROWS), jnp.float32), MATRIX)


def nothing() -> jax.Array:
    """A zero a row of a tile."""
    return plgpu.layout_cast(jnp.zeros((ROWS,), jnp.float32), VECTOR)


def scale_rows(factors: Any, x: jax.Array) -> jax.Array:
    """x [M, N] with each row multiplied by its number in the shared vector `factors` [M]."""
    return x * jax.lax.broadcast_in_dim(read(factors, VECTOR), x.shape, [0])
