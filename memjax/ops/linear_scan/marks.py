"""What stands at a token: marks [B, T], that a form of the scan reads beside `decay` and `x`.

    mark      decay   x          the gradients there
    PLAIN     as is   as is      as they are
    FIRST     0       as is      none to the decay: a document begins with an empty state
    PADDING   1       0          none: the state passes through untouched
    OUTSIDE   1       0          none, and what the cotangent of h holds there is no number of ours

OUTSIDE are the rows between the end of the sequence and that of its last block, which kernels alone meet. A pass over
[B, T] instead of one over `decay` and `x`, that XLA would have to store before a kernel.
"""

import jax
import jax.numpy as jnp

from memjax.ops import segments

PLAIN, FIRST, PADDING, OUTSIDE = range(4)
BITS = 2  # that hold one


def of_segments(segment_ids: jax.Array, reverse: bool) -> jax.Array:
    """Marks [B, T] int32 of packed documents, as a scan in this direction meets them."""
    turn = lambda x: jnp.flip(x, axis=1) if reverse else x
    docs = segments.documents(turn(segment_ids))
    marks = jnp.where(docs.valid, jnp.where(segments.begins(docs), FIRST, PLAIN), PADDING)
    return turn(marks.astype(jnp.int32))


def words(marks: jax.Array | None, batch: int, time: int, block: int, rows: int) -> jax.Array | None:
    """The marks of blocks of `block` tokens, `rows` at most 16 in a word: [B, blocks, block / rows] int32, those behind
    the sequence OUTSIDE. None where no row has a mark."""
    beyond = -time % block
    if marks is None:
        if not beyond:
            return None
        marks = jnp.full((batch, time), PLAIN, jnp.int32)
    marks = jnp.pad(marks, ((0, 0), (0, beyond)), constant_values=OUTSIDE)
    shifts = BITS * jnp.arange(rows, dtype=jnp.int32)
    return (marks.reshape(batch, -1, block // rows, rows) << shifts[None, None, None]).sum(-1)


def mark(word: jax.Array, row: jax.Array) -> jax.Array:
    """Of a row, that is a number or an array of such, in a word."""
    return (word >> (BITS * row)) & (2**BITS - 1)


def apply(decay: jax.Array, x: jax.Array, marks: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """`decay` and `x` as the recurrence takes them; what is marked needs a decay for each token."""
    if marks is None:
        return decay, x
    marks = marks[..., None]
    decay = jnp.where(marks == FIRST, 0, jnp.where(marks == PADDING, 1, decay))
    return decay, jnp.where(marks == PADDING, 0, x)


def pull(d_decay: jax.Array, d_x: jax.Array, marks: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """The gradients of `apply`'s arguments from those of its results."""
    if marks is None:
        return d_decay, d_x
    marks = marks[..., None]
    return jnp.where(marks == PLAIN, d_decay, 0), jnp.where(marks == PADDING, 0, d_x)
