"""Two small models of different nature, and the plain way to ask them: one row at a time, token by token."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from memjax.data.tokenizers import Tokenizer
from memjax.mixers import AttentionConfig, GatedDeltaNetConfig
from memjax.models import LM, BlockConfig, LMConfig

# A window shorter than the rows: what it has lost must be lost in pieces as well.
MIXERS = {"gated_delta_net": GatedDeltaNetConfig(heads=1), "attention": AttentionConfig(heads=1, context=24)}
BATCH, CHUNK = 4, 64  # pieces of 64 and of 16


@functools.cache
def make_model(mixer: str) -> LM:
    """Untrained; a head of its own, or else the likeliest token would always be the last one again."""
    block = BlockConfig(mixer=MIXERS[mixer], mlp=None)
    config = LMConfig(width=16, blocks=(block,), repeats=1, embedding_std=1.0, tie_embeddings=False)
    return LM(config, rngs=nnx.Rngs(3))


@jax.jit
def _step(model: LM, state, token):
    out = model(token, state)
    return out.state, out.logits[0, 0]


def plain_score(model: LM, tokens: Sequence[int], scored: int) -> tuple[float, bool]:
    """Log-probability of the last `scored` tokens, and whether each was the likeliest; one program for all lengths."""
    state, found = model.init_state(1), []
    for token in tokens[:-1]:
        state, logits = _step(model, state, jnp.asarray([[token]], jnp.int32))
        found.append(logits)
    logits = np.asarray(found[-scored:], np.float64)
    targets = np.asarray(tokens[-scored:])
    chosen = logits[np.arange(scored), targets]
    norm = np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)) + logits.max(-1)
    return float(np.sum(chosen - norm)), bool(np.all(logits.argmax(-1) == targets))


def plain_tokens(model: LM, prompt: Sequence[int], steps: int) -> list[int]:
    """The likeliest continuation, one token after the other."""
    state, logits, ids = model.init_state(1), None, []
    for token in prompt:
        state, logits = _step(model, state, jnp.asarray([[token]], jnp.int32))
    for _ in range(steps):
        ids.append(int(np.argmax(logits)))
        state, logits = _step(model, state, jnp.asarray([[ids[-1]]], jnp.int32))
    return ids


def plain_text(ids: Sequence[int], tokenizer: Tokenizer, until: Sequence[str]) -> str:
    """The text of the tokens `ids` before the end token and the first stop string, looked for after every token."""
    text = ""
    for count in range(1, len(ids) + 1):
        if ids[count - 1] == tokenizer.end:
            return text
        text = tokenizer.decode(ids[:count])
        for stop in until:
            if stop in text:
                return text[: text.index(stop)]
    return text


def letters(rng: np.random.Generator, count: int) -> str:
    return "".join(rng.choice(list("abcdefgh "), count))


def words(rng: np.random.Generator, count: int) -> str:
    """`count` letters that neither begin nor end with a space."""
    return "a" + letters(rng, count - 2) + "b" if count > 1 else "c"
