"""Kernels for Hopper GPUs of the ops with a matrix a head, written with Mosaic GPU (jax 0.11 and newer).

`op` holds the passes of both ops, `sequence`, `gradients` and `pairs` the kernels, `frame` and `tiles` what these are
made of, `inside` what XLA does inside the chunks. This file imports no Pallas, so that a refusal costs nothing.
"""

from typing import Any

import jax.numpy as jnp

from memjax.ops import chunking, implementations

CHUNK = 64
CHANNELS = 256
CHANNELS_GATED = 128


def refusal(q: Any, k: Any, v: Any, log_decay: Any) -> str | None:
    """Why the kernels cannot serve these arguments [B, T, ...] of an op (or shapes), None where they can."""
    if missing := implementations.no_hopper():
        return missing
    if any(x.dtype != jnp.bfloat16 for x in (q, k, v)):
        return "q, k and v must be bfloat16"
    if chunking.size(q.shape[1]) < CHUNK:
        return f"{q.shape[1]} tokens are no chunk of {CHUNK}"
    by_channel = log_decay is not None and log_decay.ndim == k.ndim
    if by_channel and k.shape[-1] > CHANNELS_GATED:
        return f"under a gate a channel its chunks fit into shared memory up to {CHANNELS_GATED} key channels"
    if k.shape[-1] > CHANNELS:
        return f"its state fits up to {CHANNELS} key channels"
    return None
