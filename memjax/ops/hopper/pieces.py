"""Linear attention over more key channels than fit into shared memory: a sum over pieces of them.

The rows of S are written and read channel by channel, so that q S is the sum of what pieces of K / n channels read,
each from a memory of its own: n heads side by side, which share v and one gate a head, and the sum of their outputs.
The delta rule has no such form, since what it writes depends on all that it reads.
"""

from typing import Any

import jax
import jax.numpy as jnp

from memjax.ops.hopper import frame, inside, sequence

CHANNELS = 256
"""Of a piece, at most: its state is held in registers."""


def count(q: Any, k: Any, v: Any, *, by_channel: bool, delta: bool) -> int | None:
    """The fewest pieces that fit, None if none do; from arrays or their shapes."""
    keys = k.shape[-1]
    for n in (1,) if delta else range(1, -(-keys // 64) + 1):
        width = -(-keys // n)
        part = lambda x, width=width: jax.ShapeDtypeStruct((*x.shape[:-1], width), x.dtype)
        if width <= CHANNELS and needed(part(q), part(k), v, by_channel, delta) <= frame.SHARED_BYTES:
            return n
    return None


def needed(q: Any, k: Any, v: Any, by_channel: bool, delta: bool) -> int:
    """Bytes of shared memory."""
    return sequence.shared_bytes(*inside.shapes(q, k, v, by_channel, delta))


def lay_out(q, k, v, log_decay, state, *, n: int) -> Any:
    """The float arguments of `op.forward` with n pieces of K as heads [H n] and [H n G / H]."""
    heads = q.shape[2]
    keys = lambda x: _divisible(x, n, -1).reshape(*x.shape[:2], heads * n, -1)
    gate = log_decay
    if gate is not None and gate.ndim == q.ndim:
        gate = _divisible(gate, n, -1).reshape(*gate.shape[:2], heads, gate.shape[2] // heads, n, -1)
        gate = jnp.swapaxes(gate, 3, 4).reshape(*gate.shape[:2], -1, gate.shape[-1])
    elif gate is not None:
        gate = shared(gate, heads, n)
    return keys(q), keys(k), shared(v, heads, n), gate, states(state, heads, n)


def shared(x: jax.Array, heads: int, n: int) -> jax.Array:
    """[B, T, G, ...] repeated for the pieces of each key head, [B, T, n G, ...]."""
    lead, rest = x.shape[:2], x.shape[3:]
    x = jnp.repeat(x.reshape(*lead, heads, 1, -1, *rest), n, axis=3)
    return x.reshape(*lead, -1, *rest)


def summed(x: jax.Array, heads: int, n: int) -> jax.Array:
    """The sum over the pieces, [B, T, n G, V] to [B, T, G, V]."""
    lead, width = x.shape[:2], x.shape[-1]
    return x.reshape(*lead, heads, n, -1, width).sum(3).reshape(*lead, -1, width)


def states(x: jax.Array, heads: int, n: int) -> jax.Array:
    """[B, G, K, V] as states of the pieces [B, n G, K / n, V]."""
    x = _divisible(x, n, 2)
    batch, groups, keys, values = x.shape
    x = x.reshape(batch, heads, groups // heads, n, keys // n, values)
    return jnp.swapaxes(x, 2, 3).reshape(batch, n * groups, keys // n, values)


def whole(x: jax.Array, heads: int, n: int, keys: int) -> jax.Array:
    """The inverse of `states`."""
    batch, groups, width, values = x.shape
    x = x.reshape(batch, heads, n, groups // (heads * n), width, values)
    return jnp.swapaxes(x, 2, 3).reshape(batch, groups // n, n * width, values)[:, :, :keys]


def _divisible(x, n, axis):
    """Channels up to a multiple of n: zeros neither read nor write."""
    pad = [(0, 0)] * x.ndim
    pad[axis] = (0, -x.shape[axis] % n)
    return jnp.pad(x, pad)
