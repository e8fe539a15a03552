"""Sequences cut into chunks, and chunks of many heads worked off side by side: what the chunked ops share."""

from functools import partial

import jax
import jax.numpy as jnp


def size(time: int) -> int:
    """Tokens a chunk: 64, fewer for a sequence that is shorter, always a power of two and at least 16."""
    return min(64, max(16, 1 << (time - 1).bit_length()))


def split(x, chunk, mode="constant"):
    """[B, T, G, ...] to [N, B * G, C, ...]; zeros behind the end neither write nor decay."""
    batch, time, groups = x.shape[:3]
    x = jnp.pad(x, ((0, 0), (0, -time % chunk), *[(0, 0)] * (x.ndim - 2)), mode=mode)
    x = jnp.moveaxis(x.reshape(batch, -1, chunk, *x.shape[2:]), (1, 3), (0, 2))
    return x.reshape(-1, batch * groups, chunk, *x.shape[4:])


def join(x, batch, time):
    """[N, B * G, C, V] to [B, T, G, V]."""
    x = x.reshape(x.shape[0], batch, -1, *x.shape[2:])
    x = jnp.transpose(x, (1, 0, 3, 2, 4))
    return x.reshape(batch, -1, *x.shape[3:])[:, :time]


def by_platform(run, inputs, *, heads, values):
    """`run(parts, *inputs)` with the number of parts that suits the platform.

    XLA runs a batched product on one CPU thread, but independent products side by side: there the rows M of `heads`
    [N, M, C, K] go in parts, if they and `values` [N, M, C, V] are large enough.
    """
    parts = _cpu_parts(heads.shape[1], heads.shape[-1] * values.shape[-1])
    return jax.lax.platform_dependent(*inputs, cpu=partial(run, parts), default=partial(run, 1))


def _cpu_parts(rows: int, work: int) -> int:
    """Into how many independent parts the rows (batch times heads) are cut on a CPU; `work` is keys times values.

    Measured on two cores at 8 rows of 128 x 128: 46 ms in one part, 32 in two, 24 in four. Small heads gain nothing
    and would pay in compile time.
    """
    if work < 64 * 64:
        return 1
    return next(parts for parts in (4, 2, 1) if rows % parts == 0)


def cut(tree, parts, axis):
    """`parts` trees, every leaf cut evenly along `axis`."""
    cut = lambda x, i: jax.lax.slice_in_dim(
        x, i * (x.shape[axis] // parts), (i + 1) * (x.shape[axis] // parts), axis=axis
    )
    return [jax.tree.map(partial(cut, i=i), tree) for i in range(parts)]


def paste(trees, axis):
    """The inverse of `cut`."""
    return jax.tree.map(lambda *x: jnp.concatenate(x, axis), *trees)


def state_axis(slots) -> int:
    """The axis of the rows M in a state [M, ...], or with `slots` in a table of states [S, M, ...]."""
    return 0 if slots is None else 1


def cut_state(parts, slots, state):
    """`cut` along the rows of a state or a table."""
    return cut(state, parts, axis=state_axis(slots))


def cut_slots(parts, slots):
    """The slots [N, M] of each part, None where there is no table."""
    return None if slots is None else cut(slots, parts, axis=1)


def scan(step, carries, xs, *, slots=None, reverse=False):
    """One scan over chunks whose body takes a step in every part.

    Args:
        step: (state, x) -> (state, y).
        carries: a state a part; with `slots` a table of states [S, M, ...].
        xs: what the chunks hold, a part each, the axis of chunks first.
        slots: None, or for each part [N, M], the entry of the table that a chunk reads and leaves behind.
    """
    slots = [None] * len(carries) if slots is None else slots

    def one(carry, x, slot):
        if slot is None:
            return step(carry, x)
        rows = jnp.arange(slot.shape[0])
        state, y = step(carry[slot, rows], x)
        return carry.at[slot, rows].set(state, unique_indices=True), y

    def body(carries, xs):
        results = [one(carry, *x) for carry, x in zip(carries, xs, strict=True)]
        return tuple(carry for carry, _ in results), tuple(y for _, y in results)

    return jax.lax.scan(body, tuple(carries), tuple(zip(xs, slots, strict=True)), reverse=reverse)
