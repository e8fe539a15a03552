"""Loss by position in context: what a token's prediction gains from the tokens before it.

The position of a token is the number of tokens of its own document before it that the model has seen, which is what its
prediction can rest on besides the token itself. In packed rows it starts at 0 with every document, and with every piece
of a document that is longer than a row: the model begins each of them with an empty memory.

Positions are gathered in buckets [start, stop) that double: 0, 1, 2 to 3, 4 to 7, ... up to the trained length T, then
T to 2T, 2T to 4T, ... An axis of log2 shows them evenly, and T is always a border.
"""

from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from memjax.ops import segments

Buckets = list[list[int | float]]  # [start, stop, loss in nats per token, tokens]


def borders(trained: int, longest: int | None = None) -> tuple[int, ...]:
    """The borders of the buckets: 0, the powers of two below `trained`, and its doublings below `longest`, the end.

    Args:
        trained: length of the rows that the model was trained on, in tokens.
        longest: number of positions; None: as many as `trained`.

    Raises ValueError where `trained` is not positive, or `longest` is less.
    """
    longest = trained if longest is None else longest
    if not 1 <= trained <= longest:
        raise ValueError(f"borders: 1 <= trained <= longest, got {trained} and {longest}")
    found = [0, *_doublings(1, trained), *_doublings(trained, longest), longest]
    return tuple(found)


def bucket_sums(
    losses: Float[Array, "B T"],
    scored: Bool[Array, "B T"],
    segment_ids: Int[Array, "B T"],
    edges: tuple[int, ...],
) -> tuple[Float[Array, "K"], Int[Array, "K"]]:
    """Summed loss and number of scored tokens in each bucket of packed rows. Traceable.

    Args:
        losses: nats, 0 where not scored.
        scored: which tokens count.
        segment_ids: documents of each row, 0 is padding.
        edges: the K + 1 `borders` of the buckets.
    """
    position = segments.positions(segments.documents(segment_ids))[None]
    starts, stops = (jnp.asarray(side, jnp.int32).reshape(-1, 1, 1) for side in (edges[:-1], edges[1:]))
    inside = scored[None] & (position >= starts) & (position < stops)  # [K, B, T], never in memory: the sums take it up
    return jnp.sum(jnp.where(inside, losses[None], 0.0), axis=(1, 2)), jnp.sum(inside, axis=(1, 2), dtype=jnp.int32)


def table(edges: Sequence[int], losses: Float[np.ndarray, "K"], tokens: Int[np.ndarray, "K"]) -> Buckets:
    """What a report says: [start, stop, nats per token, tokens] for each bucket in which a token was scored.

    Args:
        edges: the K + 1 `borders`.
        losses: nats, summed over each bucket.
        tokens: scored tokens of each bucket.
    """
    columns = zip(edges[:-1], edges[1:], losses, tokens, strict=True)
    return [[start, stop, float(loss) / int(count), int(count)] for start, stop, loss, count in columns if count]


def aligned(losses: Float[np.ndarray, "B T"], edges: tuple[int, ...]) -> Buckets:
    """As `table`, of rows whose tokens are all scored and stand at the positions 0 to T - 1.

    Args:
        losses: nats.
        edges: the `borders` for T positions.
    """
    sums = np.add.reduceat(losses.sum(0, dtype=np.float64), edges[:-1])
    return table(edges, sums, len(losses) * np.diff(edges))


def _doublings(start: int, stop: int) -> Iterator[int]:
    """start, 2 * start, 4 * start, ... below `stop`."""
    while start < stop:
        yield start
        start *= 2
