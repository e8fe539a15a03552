"""Continuations of rows, in blocks of steps on the device; where a row ends is found on the host, in its text."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key, UInt32

from memjax.data.tokenizers import Tokenizer
from memjax.evaluation.spread import split_rows, whole
from memjax.models import LM
from memjax.models.generate import choose
from memjax.types import State

BLOCK = 16  # steps in one call: a row is decoded at most this much too far


class Sampling(NamedTuple):
    """How tokens are drawn, as in `memjax.models.generate`; temperature 0 takes the likeliest."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None


class Ending(NamedTuple):
    """Where a continuation ends: after `steps` tokens, at the end token, or before one of the texts in `until`."""

    steps: int
    until: tuple[str, ...] = ()


def cut(text: str, until: Sequence[str]) -> str | None:
    """`text` before the stop string that is complete first (of several the longest); None where it holds none.

    That one is the same however much text follows it, so the answer does not depend on when one looks.
    """
    found = [(text.find(stop) + len(stop), text.find(stop)) for stop in until if stop and stop in text]
    return text[: min(found)[1]] if found else None


def continue_rows(
    model: LM,
    state: State,
    last: Sequence[int],
    endings: Sequence[Ending],
    tokenizer: Tokenizer,
    *,
    seed: int,
    draws: UInt32[np.ndarray, "B 2"],
    sampling: Sampling,
    dtype: str,
) -> list[str]:
    """The text after each row.

    Args:
        model: the model.
        state: the state before the last token of each row, leaves [R, B, ...]; used up.
        last: the last token of each of n <= B rows.
        endings: where each of the n continuations ends.
        tokenizer: makes text of tokens.
        seed: of the random numbers.
        draws: for each row of the state two numbers that choose its random numbers (`decode`).
        sampling: how tokens are drawn.
        dtype: dtype of the model's matrix products.
    """
    drawn: list[list[int]] = [[] for _ in last]
    texts: list[str | None] = [None] * len(last)
    token = np.zeros(len(draws), np.int32)
    token[: len(last)] = last
    start, key, heat = 0, jax.random.key(seed), np.float32(sampling.temperature or 1.0)
    top_k = sampling.top_k and min(sampling.top_k, model.config.vocab_size)
    static = {"greedy": sampling.temperature == 0, "top_k": top_k, "top_p": sampling.top_p, "dtype": dtype}
    while any(text is None for text in texts):
        block, state = decode(model, state, token, key, draws, np.int32(start), heat, **static)
        token, start = block[:, -1], start + BLOCK
        for place, ids in enumerate(np.asarray(block)[: len(last)].tolist()):
            if texts[place] is None:
                drawn[place] += ids
                texts[place] = _ended(drawn[place], endings[place], tokenizer)
    return [text or "" for text in texts]


def _ended(ids: list[int], ending: Ending, tokenizer: Tokenizer) -> str | None:
    """The finished text of a continuation that begins with `ids`; None while it goes on."""
    kept = ids[: ending.steps]
    kept = kept[: kept.index(tokenizer.end)] if tokenizer.end in kept else kept
    # All of it anew: a character, or a stop string, may lie across two blocks.
    text = tokenizer.decode(kept)
    short = cut(text, ending.until)
    over = len(ids) >= ending.steps or len(kept) < len(ids)
    return short if short is not None else text if over else None


@functools.partial(jax.jit, static_argnames=("greedy", "top_k", "top_p", "dtype"), donate_argnames="state")
def decode(
    model: LM,
    state: State,
    token: Int[Array, "B"],
    key: Key[Array, ""],
    draws: UInt32[Array, "B 2"],
    start: Int[Array, ""],
    temperature: jax.Array,
    *,
    greedy: bool,
    top_k: int | None,
    top_p: float | None,
    dtype: str,
) -> tuple[Int[Array, "B steps"], State]:
    """The `BLOCK` tokens after `token`, and the state before the last of them.

    Step i of a row draws with `key`, the row's `draws` and start + i folded in: what a row draws depends neither on the
    rows beside it nor on the size of a block.
    """
    token, draws = split_rows((token, draws))
    draw = functools.partial(choose, temperature=temperature, greedy=greedy, top_k=top_k, top_p=top_p)

    def one(logits, draws, step):
        return draw(logits[None], functools.reduce(jax.random.fold_in, [draws[0], draws[1], step], key))[0]

    def body(carry, step):
        token, state = carry
        hidden, state, _ = model.hidden(token[:, None], state, taps={}, dtype=jnp.dtype(dtype))
        logits = model.logits(hidden[:, -1])
        token = draw(logits, None) if greedy else jax.vmap(one, (0, 0, None))(logits, draws, step)
        return (token, state), token

    (_, state), tokens = jax.lax.scan(body, (token, state), start + jnp.arange(BLOCK))
    return whole(tokens.T), state
