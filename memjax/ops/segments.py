"""Documents packed in one row: what `segment_ids` mean, in one place.

A segment id of 0 is padding, equal positive neighbours are one document. The first document of a call continues the
state passed in; every later one begins from an empty state. Padding stands between documents or at the ends of a row.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


class Documents(NamedTuple):
    """Attributes:
    index: [B, T] number of the document a token belongs to, 0 for the one that continues the incoming state.
        Padding carries the number of the document before it.
    valid: [B, T] False at padding.
    """

    index: Int[Array, "B T"]
    valid: Bool[Array, "B T"]


def documents(segment_ids: Int[Array, "B T"]) -> Documents:
    """Numbers the documents of each row from 0, in order of appearance."""
    valid = segment_ids != 0
    before = jnp.pad(segment_ids[:, :-1], ((0, 0), (1, 0)))
    begun = jnp.cumsum(valid, axis=1) - valid > 0  # a document token stands before this one
    starts = valid & begun & (segment_ids != before)
    return Documents(jnp.cumsum(starts, axis=1, dtype=jnp.int32), valid)


def begins(docs: Documents) -> Bool[Array, "B T"]:
    """Whether a token begins with an empty state: the first of every document but the one that continues."""
    return jnp.diff(docs.index, axis=1, prepend=0) > 0


def positions(docs: Documents) -> Int[Array, "B T"]:
    """Position of each token inside its document, counted within this call; padding gets that of the next token."""
    count = jnp.cumsum(docs.valid, axis=1, dtype=jnp.int32) - docs.valid
    first = docs.index != jnp.pad(docs.index[:, :-1], ((0, 0), (1, 0)))
    start = jax.lax.cummax(jnp.where(first, count, 0), axis=1)
    return count - start


def one_document(batch: int, time: int) -> Documents:
    """What `documents` returns for rows that are one document without padding."""
    return Documents(jnp.zeros((batch, time), jnp.int32), jnp.ones((batch, time), bool))


def count_on(docs: Documents, count: Int[Array, "B"]) -> tuple[Int[Array, "B T"], Int[Array, "B"]]:
    """Positions that count from each document's start, where the first document already has `count` tokens behind it.

    Returns the position of each token, and the length so far of the row's last document.
    """
    position = positions(docs) + jnp.where(docs.index == 0, count[:, None], 0)
    last = docs.index[:, -1]
    written = (docs.valid & (docs.index == last[:, None])).sum(axis=1, dtype=jnp.int32)
    return position, jnp.where(last == 0, count, 0) + written
