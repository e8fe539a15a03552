"""Decoding: the prompt in one call, then one token a step at constant cost."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from memjax.models.lm import LM


def generate(
    lm: LM,
    prompt: Int[Array, "B T"],
    steps: int,
    *,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    key: jax.Array | None = None,
) -> Int[Array, "B steps"]:
    """Continues each row of `prompt` by `steps` tokens.

    Args:
        lm: the model.
        prompt: [B, T] token ids, T >= 1, rows of equal length.
        steps: tokens to draw.
        temperature: 0 takes the most likely token; otherwise logits are divided by it before drawing.
        top_k: draw from the k most likely tokens only.
        top_p: draw from the smallest set of tokens whose probability reaches p (after `temperature` and `top_k`).
        key: random key, needed when temperature > 0.

    Returns:
        [B, steps] int32, the prompt excluded.

    Raises:
        ValueError: an empty prompt, negative steps or temperature, no key where one is needed, top_k or top_p outside
            their range.
    """
    if prompt.ndim != 2 or prompt.shape[1] < 1:
        raise ValueError(f"generate: the prompt must be [B, T] with T >= 1, not {prompt.shape}")
    if steps < 0 or temperature < 0:
        raise ValueError(f"generate: steps={steps} and temperature={temperature} must not be negative")
    if temperature > 0 and key is None:
        raise ValueError("generate: drawing at temperature > 0 needs a key")
    if top_k is not None and not 1 <= top_k <= lm.config.vocab_size:
        raise ValueError(f"generate: top_k={top_k} is not between 1 and the vocabulary's {lm.config.vocab_size}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"generate: top_p={top_p} is not in (0, 1]")
    if steps == 0:
        return jnp.zeros((prompt.shape[0], 0), jnp.int32)
    graphdef, params = nnx.split(lm)
    key = jax.random.key(0) if key is None else key
    greedy, heat = temperature == 0, jnp.float32(temperature or 1.0)
    return _decode(graphdef, params, prompt, key, heat, steps=steps, greedy=greedy, top_k=top_k, top_p=top_p)


@partial(jax.jit, static_argnames=("graphdef", "steps", "greedy", "top_k", "top_p"))
def _decode(graphdef, params, prompt, key, temperature, *, steps, greedy, top_k, top_p):
    lm = nnx.merge(graphdef, params)
    logits = lambda hidden: lm.logits(hidden[:, -1])
    pick = partial(choose, temperature=temperature, greedy=greedy, top_k=top_k, top_p=top_p)
    hidden, state, _ = lm.hidden(prompt, taps={})  # tables are read where they lie
    first = pick(logits(hidden), jax.random.fold_in(key, 0))

    def step(carry, index):
        token, state = carry
        hidden, state, _ = lm.hidden(token[:, None], state, taps={})
        token = pick(logits(hidden), jax.random.fold_in(key, index))
        return (token, state), token

    _, rest = jax.lax.scan(step, (first, state), jnp.arange(1, steps))
    return jnp.concatenate([first[:, None], rest.T], axis=1)


def choose(
    logits: Float[Array, "B vocab"],
    key: jax.Array | None,
    *,
    temperature: jax.Array | float,
    greedy: bool,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Int[Array, "B"]:
    """A token id for each row: the most likely one if `greedy`, or else drawn with `key` as `generate` says."""
    if greedy:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    if key is None:
        raise ValueError("choose: drawing needs a key")
    logits = logits / temperature
    if top_k is not None:
        smallest = jax.lax.top_k(logits, top_k)[0][:, -1:]
        logits = jnp.where(logits < smallest, -jnp.inf, logits)
    if top_p is not None:
        ordered = jnp.sort(logits, axis=-1, descending=True)
        chances = jax.nn.softmax(ordered, axis=-1)
        kept = jnp.cumsum(chances, axis=-1) - chances < top_p  # a token stays while those before it fall short of p
        smallest = jnp.min(jnp.where(kept, ordered, jnp.inf), axis=-1, keepdims=True)
        logits = jnp.where(logits < smallest, -jnp.inf, logits)
    return jax.random.categorical(key, logits, axis=-1).astype(jnp.int32)
