"""The arguments of an op with a matrix a head: checks, what is filled in, padding."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from memjax.ops import implementations, segments


class Arguments(NamedTuple):
    """As the implementations take them: padding neither decays nor (`k` = 0) writes.

    Attributes:
        q, k: [B, T, H, K].    v: [B, T, G, V]; these three in their own dtypes.
        log_decay: None, [B, T, G] or [B, T, G, K].    initial_state: [B, G, K, V]; both float32 or wider.
        docs: the documents, or None.
    """

    q: jax.Array
    k: jax.Array
    v: jax.Array
    log_decay: jax.Array | None
    initial_state: jax.Array
    docs: segments.Documents | None


def prepare(q, k, v, log_decay, initial_state, segment_ids) -> Arguments:
    """Fills in what `check` let pass, and takes padding out of it."""
    wide = widen(q, k, v)
    if initial_state is None:
        initial_state = jnp.zeros((v.shape[0], v.shape[2], k.shape[-1], v.shape[-1]), wide)
    log_decay = None if log_decay is None else log_decay.astype(wide)
    docs = None
    if segment_ids is not None:
        docs = segments.documents(segment_ids)
        live = lambda x: jnp.where(docs.valid.reshape(*docs.valid.shape, *[1] * (x.ndim - 2)), x, 0)
        k = live(k)
        log_decay = None if log_decay is None else live(log_decay)
    return Arguments(q, k, v, log_decay, initial_state.astype(wide), docs)


def widen(*arrays: jax.Array) -> Any:
    """The dtype of states and sums: at least float32."""
    return jnp.promote_types(jnp.result_type(*arrays), jnp.float32)


def check(op: str, q, k, v, log_decay, initial_state, segment_ids, **more: tuple[Any, tuple[int, ...]]) -> None:
    """Raises ValueError where shapes do not fit; `more` are arrays of an op's own with the shape they need."""
    batch, time, heads, width = q.shape
    groups = v.shape[2]
    if time < 1:
        raise ValueError(f"{op}: the sequence is empty (T = 0)")
    if batch < 1:
        raise ValueError(f"{op}: the batch is empty (B = 0)")
    if groups % heads:
        raise ValueError(f"{op}: {groups} value heads are not a multiple of {heads} key heads")
    expected = {
        "k": (k, [(batch, time, heads, width)]),
        "v": (v, [(batch, time, groups, v.shape[-1])]),
        "log_decay": (log_decay, [(batch, time, groups), (batch, time, groups, width)]),
        "initial_state": (initial_state, [(batch, groups, width, v.shape[-1])]),
        "segment_ids": (segment_ids, [(batch, time)]),
        **{name: (array, [shape]) for name, (array, shape) in more.items()},
    }
    implementations.check_shapes(op, expected)
