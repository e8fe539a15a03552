"""The linear scan on TPUs: one pass over device memory, time in order, the state in VMEM.

      decay, x, h [B, T, D]            one block of (time, lanes)              one group of 64 x 128

              lanes                        128                             8 tiles of 8 rows, in registers
        ┌───────┬───────┐               ┌─────┬─────┬─────┐               ┌─────────────┐
        │  1  ──┼──►    │   time        │  ▼  │     │     │  group        │ 0..7    X A │  within a tile: 3 doublings
        ├───────┼───────┤    │          ├─────┤     │     │               ├─────────────┤
        │  2    │       │    ▼          │  ▼  │     │     │  group        │ 8..15   X A │  h = X + A s, s the row that
        ├───────┼───────┤               ├─────┤     │     │               ├─────────────┤  the tile before ends with
        │  3    │       │               │  ▼  │     │     │  group        │ ...         │
        └───────┴───────┘               └─────┴─────┴─────┘               └─────────────┘

    grid (B, D / lanes, T / time): rows and channel blocks in parallel, time blocks one after the other ("arbitrary"),
    backwards for `reverse` and for the gradient. A tile gets X, its scan from zero, and A, its products of decays, by
    doubling with rolled registers; a group joins its tiles row by row from zero, and adds the state that it began with:
    the digits that the blocked form for XLA keeps.

    On chip: two blocks of each array (one computed, one copied) in at most 10 MiB of VMEM, the state (1, lanes), and
    with a constant decay its gradient (8, lanes). Block sizes in `tiling.tpu`.
    Floor: forward 3 arrays (decay, x, h), backward 5 (decay, h, dh, ddecay, dx), a constant decay counting nothing, and
    8 rows a block (16 of bfloat16) of h once more, which the block's first row needs. About 30 operations of the vector
    unit a register of 1024 numbers forward, 40 backward: below the time that the copies take.

A width that is no multiple of 128 has a last block that reaches beyond the array: what is read there is garbage in
lanes of its own, what is written there is dropped. Rows beyond T are marked OUTSIDE. Marks travel as scalars, 8 rows a
word. bfloat16 x, h and their cotangents are widened in registers. Complex arrays are pairs: XLA for TPUs keeps them as
such, so that splitting them costs nothing.
"""

from functools import partial

import jax
import jax.numpy as jnp

UNIT = 1
"""Channels that rows must be a multiple of, on each device."""


def refusal(decay, x) -> str | None:
    """Why the kernel cannot serve a decay and x of these dtypes, or None."""
    if decay.dtype not in (jnp.float32, jnp.complex64):
        return f"it computes in float32 and complex64, not in {decay.dtype}"
    if x.dtype not in (decay.dtype, jnp.bfloat16):
        return f"x is {x.dtype}, not float32, bfloat16 or complex64"
    return None


@partial(jax.jit, static_argnames=("reverse", "interpret"))
def forward(decay, x, state, marks, *, reverse: bool, interpret=False):
    """h [B, T, D] in the dtype of x and the last state [B, D].

    Args:
        decay: [B, T, D], or [B or 1, 1, D] for one that is the same at every token.
        x: [B, T, D].
        state: [B, D].
        marks: None or [B, T].
        reverse: whether time runs backwards.
        interpret: True, or the parameters of the TPU interpreter.
    """
    from memjax.ops.linear_scan import tpu_kernels

    return tpu_kernels.forward(decay, x, state, marks, reverse, interpret)


@partial(jax.jit, static_argnames=("reverse", "interpret"))
def backward(decay, h, state, marks, d_h, d_last, *, reverse: bool, interpret=False):
    """The gradients of decay ([B, 1, D], to be summed over rows, of one that is the same at every token), x and state.

    Args: as in `forward`; h and the cotangents of h and of the last state.
    """
    from memjax.ops.linear_scan import tpu_kernels

    return tpu_kernels.backward(decay, h, state, marks, d_h, d_last, reverse, interpret)
