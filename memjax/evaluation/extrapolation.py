"""Length extrapolation: a model trained on rows of T tokens reads T, 2T, 4T, ... 32T with its state carried.

The text is the evaluation split as one stream: documents follow each other, an end token between them, and nothing is
reset at their borders, since most documents are shorter than the lengths asked about. The beginning of the stream is
cut into windows of L tokens, L the longest length. For each length n <= L a window is read as L / n rows of n
tokens, each from an empty memory, in calls of T tokens that hand the state on, so one program serves every length.

So every length scores the same tokens, and lengths differ only in how much text each token has before it. Two numbers
say what that is worth:

    loss        of all tokens: the model in contexts of n tokens, short ones at the beginning of rows included
    last_loss   of the last T tokens of the windows, each time the same ones, with exactly n - T tokens before them

`last_gain` is by how much the second is below that of n = T, and `last_gain_error` its standard error over windows,
which pairs each window with itself: whether carrying more text helps or harms can be read off these two.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from memjax import data
from memjax.config import TrainConfig
from memjax.evaluation import positions
from memjax.evaluation.decoding import trained_length
from memjax.evaluation.spread import split_rows, whole
from memjax.evaluation.text import evaluation_batch
from memjax.models import LM
from memjax.training.loss import token_losses
from memjax.types import State

EXTRAPOLATION = "extrapolation"  # the name, among tasks, of what follows
FACTOR = 32  # the longest length over the trained one
WINDOWS = 32

Stream = dict[str, np.ndarray]  # "tokens", "targets" and the "bytes" of each target


def extrapolation(
    model: LM, config: TrainConfig, *, factor: int = FACTOR, windows: int = WINDOWS
) -> list[dict[str, Any]]:
    """A row of a report for each length T, 2T, 4T, ..., T the length of the rows that the run was trained on.

    Args:
        model: the model.
        config: the run's configuration; its data are text.
        factor: the longest length over T, a power of two; a shorter split is read as far as it goes.
        windows: how many windows of the longest length are read at most.

    Returns:
        "length" n, "trained_length" T, "loss" (nats per token), "bits_per_byte", "tokens" (scored), "rows" (of n tokens
        each), "by_position" (see `memjax.evaluation.positions`), "last_loss", "last_tokens", "last_gain" (nats per
        token) and "last_gain_error" (None of a single window).

    Raises ValueError where factor or windows are impossible, or the split has less than T tokens.
    """
    trained = trained_length(config)
    if windows < 1 or factor < 1 or factor & (factor - 1):
        raise ValueError(f"extrapolation: windows={windows} must be positive, factor={factor} a power of two")
    text = _windows(config, trained * factor, windows)
    longest, size = text["tokens"].shape[1], int(text["bytes"].sum())
    rows, at_trained = [], np.zeros(0)
    for length in (trained << power for power in range((longest // trained).bit_length())):
        losses = _read(model, config, text, length)
        last = losses[:, -trained:].mean(1)
        at_trained = last if length == trained else at_trained
        gains = at_trained - last
        rows.append(
            {
                "task": EXTRAPOLATION,
                "length": length,
                "trained_length": trained,
                "loss": float(losses.mean()),
                "bits_per_byte": float(losses.sum()) / math.log(2) / size,
                "tokens": losses.size,
                "rows": losses.size // length,
                "last_loss": float(last.mean()),
                "last_tokens": trained * len(losses),
                "last_gain": float(gains.mean()),
                "last_gain_error": float(gains.std(ddof=1)) / len(gains) ** 0.5 if len(gains) > 1 else None,
                "by_position": positions.aligned(losses.reshape(-1, length), positions.borders(trained, length)),
                "axes": ["length"],
            }
        )
    return rows


def stream(config: TrainConfig, tokens: int) -> Stream:
    """The first `tokens` tokens of the evaluation split (all, where there are fewer) as one text, each array int32 [N].

    Pieces of a document overlap by the one token that is the target of the first and an input of the second, and
    so do documents by the end token: inputs in their order, without the padding, are the text.
    """
    pieces, count = [], 0
    for batch in data.eval_loader(config.data, batch_size=evaluation_batch(config)):
        real = batch["segment_ids"] > 0
        pieces.append({name: batch[name][real] for name in ("tokens", "targets", "bytes")})
        count += len(pieces[-1]["tokens"])
        if count >= tokens:
            break
    return {name: np.concatenate([piece[name] for piece in pieces])[:tokens] for name in pieces[0]}


def _windows(config: TrainConfig, longest: int, most: int) -> Stream:
    """The stream as windows [W, L], W at most `most` and as many as batches hold, L at most `longest`."""
    text, trained = stream(config, longest * most), trained_length(config)
    found = len(text["tokens"])
    if found < trained:
        raise ValueError(f"{EXTRAPOLATION}: the evaluation split has {found} tokens, less than one row of {trained}")
    while longest > found:
        longest //= 2
    count = min(found // longest, most)
    batch = min(count, evaluation_batch(config))
    count -= count % batch  # every call has the same number of rows, none of them filled up
    windows = {name: values[: count * longest].reshape(count, longest) for name, values in text.items()}
    if not windows["bytes"].any():
        raise ValueError(f"{EXTRAPOLATION}: the evaluation split holds no text")
    return windows


def _read(model: LM, config: TrainConfig, text: Stream, length: int) -> np.ndarray:
    """The loss of every token, float64 [W, L] in nats, of windows that are read in rows of `length` tokens."""
    count, longest = text["tokens"].shape
    batch, step = min(count, evaluation_batch(config)), trained_length(config)
    empty, found = model.init_state(batch), []
    for first in range(0, count, batch):
        pieces, state = [], empty
        for start in range(0, longest, step):
            state = empty if start % length == 0 else state
            tokens, targets = (
                text[name][first : first + batch, start : start + step] for name in ("tokens", "targets")
            )
            losses, state = _call(model, tokens, targets, state, chunk=config.loss_chunk, dtype=config.compute_dtype)
            pieces.append(losses)
        found.append(np.concatenate([np.asarray(losses, np.float64) for losses in pieces], axis=1))
    return np.concatenate(found)


@functools.partial(jax.jit, static_argnames=("chunk", "dtype"))
def _call(
    model: LM, tokens: jax.Array, targets: jax.Array, state: State, *, chunk: int | None, dtype: str
) -> tuple[jax.Array, State]:
    """The loss of each token, [B, T] in nats, and the state after them."""
    tokens, targets = split_rows((tokens, targets))
    hidden, state, _ = model.hidden(tokens, state, taps={}, dtype=jnp.dtype(dtype))
    return whole(token_losses(model.logits, hidden, targets, chunk)[1]), state
