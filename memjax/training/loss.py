"""Cross-entropy in time chunks, so that the logits of a whole batch never stand in memory at once; squared error.

With hidden states h_t, targets y_t and a scored mask m_t = [y_t >= 0] this is the sum (not the mean) of
-m_t log softmax(head(h_t))[y_t]: sums of parts add up to the sum of the whole, so chunks here, micro-batches and
processes elsewhere may split a batch in any way and divide once by the number of scored tokens.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int


class TokenSums(NamedTuple):
    """Sums over the scored tokens of a batch, or over the scored numbers of real-valued ones.

    Attributes:
        loss: float32, summed cross-entropy in nats, or summed squared error.
        correct: int32, tokens whose most likely value is the target; None for squared errors.
        scored: int32, tokens with a target, or numbers to predict.
    """

    loss: jax.Array
    correct: jax.Array | None
    scored: jax.Array


def token_sums(
    logits_of: Callable[[jax.Array], jax.Array],
    hidden: Float[Array, "B T D"],
    targets: Int[Array, "B T"],
    chunk: int | None = None,
) -> TokenSums:
    """Loss, hits and count of the scored tokens, computed `chunk` positions at a time.

    Args:
        logits_of: the head; maps [..., D] to float32 logits [..., vocab].
        hidden: what the head reads.
        targets: the token to predict at each position; negative means not scored.
        chunk: positions of the time axis whose logits exist at once, in the forward and in the backward pass;
            None or at least T computes them in one piece.

    The logits of a chunk are computed again in the backward pass (`jax.checkpoint`), unless there is one chunk only:
    then keeping them costs no more than computing them.
    """
    return _by_chunks(logits_of, hidden, targets, chunk, each=False)[0]


def token_losses(
    logits_of: Callable[[jax.Array], jax.Array],
    hidden: Float[Array, "B T D"],
    targets: Int[Array, "B T"],
    chunk: int | None = None,
) -> tuple[TokenSums, Float[Array, "B T"]]:
    """As `token_sums`, and beside the sums the cross-entropy of every token: nats, float32, 0 where not scored."""
    return _by_chunks(logits_of, hidden, targets, chunk, each=True)


def _by_chunks(logits_of, hidden, targets, chunk, *, each: bool) -> tuple[TokenSums, Any]:
    """The sums, and the losses [B, T] they are of if `each` is wanted."""
    length = hidden.shape[1]
    if not chunk or chunk >= length:
        return _sums(logits_of, hidden, targets)
    padding = -length % chunk
    hidden = _chunks(jnp.pad(hidden, ((0, 0), (0, padding), (0, 0))), chunk)
    targets = _chunks(jnp.pad(targets, ((0, 0), (0, padding)), constant_values=-1), chunk)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def body(sums, piece):
        found, losses = _sums(logits_of, *piece)
        return jax.tree.map(jnp.add, sums, found), losses if each else None

    zero = TokenSums(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))
    sums, losses = jax.lax.scan(body, zero, (hidden, targets))
    return sums, losses if losses is None else jnp.moveaxis(losses, 0, 1).reshape(losses.shape[1], -1)[:, :length]


def squared_sums(
    outputs_of: Callable[[jax.Array], jax.Array],
    hidden: Float[Array, "B T D"],
    outputs: Float[Array, "B T O"],
    mask: Float[Array, "B T"],
) -> TokenSums:
    """Squared error and count of the numbers that the mask (1 or 0) scores."""
    errors = jnp.sum(jnp.square(outputs_of(hidden) - outputs), axis=-1)
    return TokenSums(jnp.sum(jnp.where(mask > 0, errors, 0.0)), None, scored_in({"outputs": outputs, "mask": mask}))


def scored_in(batch: Mapping[str, Any]) -> jax.Array:
    """int32 number of scored tokens in a batch, of scored numbers in one with real-valued "outputs"."""
    if "outputs" in batch:
        return batch["outputs"].shape[-1] * jnp.sum(batch["mask"] > 0, dtype=jnp.int32)
    return jnp.sum(batch["targets"] >= 0, dtype=jnp.int32)


def gather_positions(x: Array, positions: Int[Array, "B K"]) -> Array:
    """x [B, T, ...] at `positions` of each row, as [B, K, ...]."""
    return jnp.take_along_axis(x, positions.reshape(positions.shape + (1,) * (x.ndim - 2)), axis=1)


def _sums(logits_of, hidden, targets) -> tuple[TokenSums, jax.Array]:
    logits, scored = logits_of(hidden), targets >= 0
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(targets, 0))
    losses = jnp.where(scored, losses, 0.0)
    sums = TokenSums(
        loss=jnp.sum(losses),
        correct=jnp.sum((jnp.argmax(logits, -1) == targets) & scored, dtype=jnp.int32),
        scored=jnp.sum(scored, dtype=jnp.int32),
    )
    return sums, losses


def _chunks(x: jax.Array, chunk: int) -> jax.Array:
    """[B, n * chunk, ...] -> [n, B, chunk, ...]."""
    return jnp.moveaxis(x.reshape(x.shape[0], -1, chunk, *x.shape[2:]), 1, 0)
