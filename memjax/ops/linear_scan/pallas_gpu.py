"""The linear scan on Hopper GPUs: one pass over device memory, time in order, the state in registers.

    decay, x, h [B, T, D]          one block of the grid: a row, 128 channels, a channel a thread

             128   128                 device memory           shared memory               registers
           ┌─────┬─────┐             ┌───────────────┐      ┌────────────────┐
      time │  ▼  │  ▼  │             │ tokens 0..15  │ ───► │ decay, x  [0]  │ ──┐   local <- a local + x
           │  ▼  │  ▼  │             │ 16..31        │ ───► │ decay, x  [1]  │   ├──► through <- a through
           │  ▼  │  ▼  │             │ 32..47        │ ───► │ decay, x  [2]  │ ──┘   h = local + through start
           └─────┴─────┘             │ ...           │      │ ...            │              │
                                     │ h             │ ◄─── │ h     [0], [1] │ ◄────────────┘
                                     └───────────────┘      └────────────────┘

    The copy engine keeps the next blocks of rows under way (`tiling.Ring`: 4 buffers of each input forward, 3 backward)
    and writes results from two more, so that the thread group waits for bandwidth alone. Every 64 tokens the sums begin
    again from zero and what they began with is added: the digits that the blocked form for XLA keeps. The backward is
    the same walk in the other direction; h of the token before comes as a window that is moved by one row.

    On chip: float32 80 KiB forward, 104 KiB backward, of 227.
    Floor: forward 3 arrays (decay, x, h), backward 5 (decay, h, dh, ddecay, dx), a constant decay counting nothing;
    4 flops a number forward, 6 backward.

Rows beyond T and channels beyond D are read as zeros and not written by the copy engine, which takes rows of whole 16
bytes: D must be a multiple of 8. Marks travel as scalars, a word for each block, asked for a block ahead. bfloat16 x, h
and their cotangents are widened in registers. Complex arrays are pairs: XLA splits the inputs and joins the outputs,
which moves each once more where it cannot fuse that with what stands beside.

A block of the grid walks through all of time, so fewer rows times channels than 132 x 128 leave multiprocessors idle.
To split time over blocks as well (sums from zero, then the states between, then a second pass) is not done.
"""

from functools import partial

import jax
import jax.numpy as jnp

from memjax.ops import implementations

UNIT = 8
"""Channels that rows must be a multiple of, on each device."""


def refusal(decay, x) -> str | None:
    """Why the kernel cannot serve a decay and x of these dtypes and widths, or None."""
    if missing := implementations.no_hopper():
        return missing
    if decay.dtype not in (jnp.float32, jnp.complex64):
        return f"it computes in float32 and complex64, not in {decay.dtype}"
    if x.dtype not in (decay.dtype, jnp.bfloat16):
        return f"x is {x.dtype}, not float32, bfloat16 or complex64"
    if x.shape[-1] % UNIT:
        return f"{x.shape[-1]} channels are no multiple of {UNIT}: the copy engine takes rows of whole 16 bytes"
    return None


@partial(jax.jit, static_argnames=("reverse", "interpret"))
def forward(decay, x, state, marks, *, reverse: bool, interpret=False):
    """h [B, T, D] in the dtype of x and the last state [B, D].

    Args: as in `pallas_tpu.forward`; `interpret` True, or the parameters of the GPU interpreter.
    """
    from memjax.ops.linear_scan import gpu_kernels

    return gpu_kernels.forward(decay, x, state, marks, reverse, interpret)


@partial(jax.jit, static_argnames=("reverse", "interpret"))
def backward(decay, h, state, marks, d_h, d_last, *, reverse: bool, interpret=False):
    """The gradients of decay ([B, 1, D], to be summed over rows, of one that is the same at every token), x and state.

    Args: as in `forward`; h and the cotangents of h and of the last state.
    """
    from memjax.ops.linear_scan import gpu_kernels

    return gpu_kernels.backward(decay, h, state, marks, d_h, d_last, reverse, interpret)
