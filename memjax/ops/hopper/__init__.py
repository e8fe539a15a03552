"""Kernels for Hopper GPUs of the ops with a matrix a head, written with Mosaic GPU (jax 0.11 and newer).

`op` holds the passes of both ops, `sequence`, `gradients`, `pairs` and `channels` the kernels, `frame`, `places` and
`tiles` what these are made of, `inside` what XLA does inside the chunks, `pieces` what it does where keys are too wide.
This file imports Pallas only where all else speaks for the kernels, so that most refusals cost nothing.
"""

from functools import partial
from typing import Any

import jax.numpy as jnp

from memjax.ops import chunking, implementations
from memjax.ops.matrix_memory import devices

CHUNK = 64


def refusal(x: Any, *, delta: bool) -> str | None:
    """Why the kernels cannot serve these `matrix_memory.Arguments` (or their shapes), of the delta rule or of linear
    attention; None where they can."""
    q, k, v, log_decay = x[:4]
    if missing := implementations.no_hopper():
        return missing
    if any(x.dtype not in (jnp.bfloat16, jnp.float32) for x in (q, k, v)):
        return "q, k and v must be bfloat16 or float32"
    if chunking.size(q.shape[1]) < CHUNK:
        return f"{q.shape[1]} tokens are no chunk of {CHUNK}"
    by_channel = log_decay is not None and log_decay.ndim == k.ndim
    from memjax.ops.hopper import pieces

    if pieces.count(q, k, v, by_channel=by_channel, delta=delta) is None:
        if k.shape[-1] > pieces.CHANNELS:
            return f"its state fits up to {pieces.CHANNELS} key channels"
        kinds = ", ".join(f"{name} {y.dtype.name}" for name, y in zip("qkv", (q, k, v), strict=True))
        bytes_needed = pieces.needed(q, k, v, by_channel, delta)
        gate = " and a gate each" if by_channel else ""
        return (
            f"with {k.shape[-1]} key channels{gate}, {kinds}, a chunk takes {bytes_needed // 1024} KiB of shared memory"
        )
    return None


def forward(*inputs: Any, scale: float, interpret: Any) -> tuple[Any, ...]:
    """(o, final_state) and with a beta the inverses [N, B, G, C, C] that `backward` takes.

    A bfloat16 input is exact; of a float32 one 16 of its 24 bits are kept (`tiles`), an error of 2^-17 a product.

    Args:
        inputs: q, k [B, T, H, K] and v [B, T, G, V], each bfloat16 or float32; log_decay None, [B, T, G] or
            [B, T, G, K] and beta [B, T, G] or None, float32; state [B, G, K, V] float32; index [B, T], the number of a
            token's document, or None. Padding has k = 0 and no decay.
        scale: factor on q.
        interpret: simulate the GPU on the CPU: True, or parameters of the simulator.
    """
    from memjax.ops.hopper import op

    return devices.forward(partial(op.forward, scale=scale, interpret=interpret), *inputs)


def backward(*inputs: Any, scale: float, interpret: Any) -> tuple[Any, ...]:
    """The gradients of q, k, v, log_decay, beta and state, None for None; `inputs` as in `forward`, then the inverses
    or None, and the cotangents of o and of the final state."""
    from memjax.ops.hopper import op

    return devices.backward(partial(op.backward, scale=scale, interpret=interpret), *inputs)
