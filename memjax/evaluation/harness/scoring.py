"""Rows of any length through a model in few compiled programs, each token that rows share fed once.

A row goes in pieces of `chunk` tokens with the state carried, and what is left in smaller ones. What is behind a row's
end has segment id 0, which leaves the state untouched, so rows of different lengths share a batch and a row's state is
exactly the one after its last token. Pieces come in few sizes (256, 64 and 16 tokens) and batches in one: three
programs, whatever the lengths, and memory does not grow with them.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Float64, Int

from memjax.evaluation.harness.prefixes import Node, Row, prefix_trees
from memjax.evaluation.spread import split_rows, whole
from memjax.models import LM
from memjax.types import State

SMALLEST = 16  # tokens that the shortest piece has at least
RATIO = 4  # between the sizes of pieces: each size is a program to compile
SLICE = 64  # positions whose logits exist at once


@dataclasses.dataclass
class Counts:
    """How much work a `Scorer` has been given and how much it has done.

    Attributes:
        asked: tokens of all rows.
        fed: tokens that went through the model: those of shared prefixes count once.
        slots: tokens and padding that went through the model.
        calls: calls of the model.
    """

    asked: int = 0
    fed: int = 0
    slots: int = 0
    calls: int = 0


class Finished(NamedTuple):
    """Rows that have been fed to their ends.

    Attributes:
        requests: their numbers.
        log_probs: sum over the scored tokens, in nats.
        greedy: whether each scored token was the most likely one.
        state: the state after each row, leaves [R, B, ...] with the rows in the order of `requests` and, behind them,
            rows that fill the batch.
    """

    requests: list[int]
    log_probs: Float64[np.ndarray, "n"]
    greedy: Bool[np.ndarray, "n"]
    state: State


class Sums(NamedTuple):
    """Per row of a batch: the log-probability of its scored tokens (float32), and how many were not the likeliest."""

    log_prob: Float[Array, "B"]
    misses: Int[Array, "B"]


class Scorer:
    """Feeds rows to a model.

    Args:
        model: the model.
        batch_size: rows in one call.
        chunk: tokens of a row in one call at most, a power of two from 16.
        dtype: dtype of the model's matrix products.

    Raises ValueError for a batch or chunk that cannot be.
    """

    def __init__(self, model: LM, *, batch_size: int = 16, chunk: int = 256, dtype: str = "float32"):
        if batch_size < 1:
            raise ValueError(f"harness: batch_size must be at least 1, not {batch_size}")
        if chunk < SMALLEST or chunk & (chunk - 1):
            raise ValueError(f"harness: chunk must be a power of two from {SMALLEST}, not {chunk}")
        self.model, self.batch_size, self.chunk, self.dtype = model, batch_size, chunk, dtype
        self.counts = Counts()
        self._start = model.init_state(batch_size)

    def run(self, rows: Sequence[Row]) -> Iterator[Finished]:
        """Feeds `rows` and hands them back batch by batch, in an order of its own, each row once."""
        self.counts.asked += sum(len(row.tokens) for row in rows)
        trees = prefix_trees(rows)
        yield from self._walk([(node, 0) for node in trees], self._start)

    def _walk(self, nodes: list[tuple[Node, int]], states: State) -> Iterator[Finished]:
        """Feeds (node, row of its parent in `states`), and then what hangs on each: depth first, so that the states
        of one batch a level are alive. Prefixes go apart from ends, else many batches of prefixes would be few."""
        nodes = sorted(nodes, key=lambda pair: -len(pair[0].row.tokens))  # alike lengths share a batch
        ends = [pair for pair in nodes if not pair[0].children]
        prefixes = [pair for pair in nodes if pair[0].children]
        for batch in _batches(prefixes, self.batch_size):
            after, _ = self._feed(batch, states)
            below = [(child, place) for place, (node, _) in enumerate(batch) for child in node.children]
            yield from self._walk(below, after)
        for batch in _batches(ends, self.batch_size):
            state, found = self._feed(batch, states)
            log_probs, misses = np.zeros(len(batch)), np.zeros(len(batch), np.int32)
            for sums in found:
                log_probs += np.asarray(sums.log_prob)[: len(batch)]
                misses += np.asarray(sums.misses)[: len(batch)]
            requests = [node.request for node, _ in batch if node.request is not None]
            yield Finished(requests, log_probs, misses == 0, state)

    def _feed(self, batch: list[tuple[Node, int]], states: State) -> tuple[State, list[Sums]]:
        """The state after each of at most `batch_size` nodes, in their order, and the sums of each call."""
        parents = np.zeros(self.batch_size, np.int32)
        parents[: len(batch)] = [parent for _, parent in batch]
        lengths = np.array([len(node.row.tokens) for node, _ in batch])
        pieces = _pieces(int(lengths.max()), self.chunk)
        tokens, targets = _padded([node.row for node, _ in batch], self.batch_size, sum(pieces))
        inside = np.zeros(tokens.shape, np.int32)
        inside[: len(batch)] = np.arange(tokens.shape[1]) < lengths[:, None]
        state, found, start = take_rows(states, parents), [], 0
        for piece in pieces:
            now = slice(start, start + piece)
            arrays = tokens[:, now], targets[:, now], inside[:, now]
            state, sums = feed(self.model, state, *arrays, dtype=self.dtype)
            found.append(sums)
            start += piece
        self.counts.fed += int(lengths.sum())
        self.counts.slots += tokens.size
        self.counts.calls += len(pieces)
        return state, found


@functools.partial(jax.jit, static_argnames="dtype", donate_argnames="state")
def feed(
    model: LM,
    state: State,
    tokens: Int[Array, "B T"],
    targets: Int[Array, "B T"],
    segment_ids: Int[Array, "B T"],
    *,
    dtype: str,
) -> tuple[State, Sums]:
    """The state after `tokens` and the sums over `targets` (-1: not scored). The state passed in is used up."""
    tokens, targets, segment_ids = split_rows((tokens, targets, segment_ids))
    out = model.hidden(tokens, state, segment_ids=segment_ids, taps={}, dtype=jnp.dtype(dtype))
    return out.state, whole(_sums(model, out.hidden, targets))


@jax.jit
def take_rows(state: State, index: Int[Array, "B"]) -> State:
    """Rows of a state, leaves [R, b, ...], as a state of its own, [R, B, ...]."""
    return jax.tree.map(lambda leaf: leaf[:, index], state)


def _sums(model: LM, hidden: jax.Array, targets: jax.Array) -> Sums:
    """The sums, `SLICE` positions at a time; a slice without a target never meets the head."""
    zero = Sums(jnp.zeros(len(targets), jnp.float32), jnp.zeros(len(targets), jnp.int32))

    def scored(hidden, targets):
        logits, mask = model.logits(hidden), targets >= 0
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(targets, 0))
        misses = (jnp.argmax(logits, axis=-1) != targets) & mask
        return Sums(-jnp.sum(jnp.where(mask, losses, 0.0), axis=1), jnp.sum(misses, axis=1, dtype=jnp.int32))

    def body(sums, part):
        found = jax.lax.cond(jnp.any(part[1] >= 0), scored, lambda *_: zero, *part)
        return jax.tree.map(jnp.add, sums, found), None

    cut = lambda x: jnp.moveaxis(x.reshape(x.shape[0], -1, min(SLICE, x.shape[1]), *x.shape[2:]), 1, 0)
    return jax.lax.scan(body, zero, (cut(hidden), cut(targets)))[0]


def _pieces(length: int, chunk: int) -> list[int]:
    """Sizes of the calls that take `length` tokens, the largest first; one that is filled by half is not split up."""
    found, size = [], chunk
    while length > 0:
        smaller = size // RATIO
        count, rest = divmod(length, size)
        whole_rest = 2 * rest > size or smaller < SMALLEST
        found += [size] * (count + (rest > 0 and whole_rest))
        length, size = 0 if whole_rest else rest, smaller
    return found


def _padded(rows: Sequence[Row], size: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and targets as [size, length], filled up with 0 and -1."""
    tokens, targets = np.zeros((size, length), np.int32), np.full((size, length), -1, np.int32)
    for place, row in enumerate(rows):
        tokens[place, : len(row.tokens)] = row.tokens
        targets[place, : len(row.targets)] = row.targets
    return tokens, targets


def _batches(nodes: list, size: int) -> Iterator[list]:
    return (nodes[start : start + size] for start in range(0, len(nodes), size))
