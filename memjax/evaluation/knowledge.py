"""What a model knows by heart: bits of a population of synthetic biographies, and when it began to learn them.

With V_a possible values of attribute a and the mean over people of the cross-entropy of a value given the person,
loss_a (nats, summed over the tokens of the value), a model of P parameters knows of N people

    bits = N * sum_a max(0, log2 V_a - loss_a / ln 2)            bits_per_parameter = bits / P

This is the bit complexity of Allen-Zhu and Li (2024, https://arxiv.org/abs/2404.05405), N log2(N0 / e^p1) +
N log2(S0 / e^p2), of which we take the second term: S0 is the product of all V_a, p2 the sum of all loss_a. The first,
N log2(N0 / e^p1) with N0 possible names and p1 the loss of a name, is left out: who the people are is asked, not
counted. Each attribute is bounded below at 0 (there the sum is not bounded), so that what is confidently wrong about
one attribute takes nothing from another. Published there: about 2 bits per parameter after 1000 exposures of every
person, 1 after 100.

A model that knows how often each value occurs, and nobody, stands on a plateau (Zucchet et al. 2025,
https://arxiv.org/abs/2503.21676) at `plateau_loss`. In a small population values are not equally frequent, which is
worth up to about (V_a - 1) / (2 N ln 2) bits a person and attribute above zero.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Float, Int

from memjax.evaluation.recall import SEED
from memjax.evaluation.spread import split_rows, whole
from memjax.models import LM
from memjax.tasks import biographies
from memjax.tasks.biographies import ATTRIBUTES, VALUE_TOKENS, BiographiesConfig
from memjax.training.loss import gather_positions


def knowledge(
    model: LM,
    config: BiographiesConfig,
    *,
    people: int | None = None,
    batch_size: int = 64,
    dtype: str = "float32",
) -> dict[str, float]:
    """What `model` knows about the population of `config`, every person counted once whatever the frequency.

    Each person stands alone in a row, so that nothing but the weights can answer: one biography (its order and opening
    words are always the same ones), or with form "question" one row for each of the six questions.

    Args:
        model: the model; its vocabulary must hold the task's.
        config: the population, and the form in which it is asked for; length, scored and power are not read.
        people: how many to ask about, drawn uniformly and always the same ones; None or at least N: all of them. The
            bits are those of all N people, at the mean loss of the ones that were asked about.
        batch_size: rows in one call of the model.
        dtype: dtype of the model's matrix products.

    Returns:
        "accuracy", "attribute_accuracy", "accuracy/<attribute>" as in `biographies.score`; "loss" (nats per value
        token), "loss/<attribute>" (nats per value); "bits" and "bits_per_parameter" (over all parameters).

    Raises ValueError where the model's vocabulary is too small, or `people` is not positive.
    """
    if model.config.vocab_size < biographies.vocabulary(config):
        needed = biographies.vocabulary(config)
        raise ValueError(f"biographies need a vocabulary of {needed} tokens, the model has {model.config.vocab_size}")
    if people is not None and people < 1:
        raise ValueError(f"people must be at least 1, got {people}")
    rng = np.random.default_rng(SEED)
    asked = np.sort(rng.permutation(config.people)[:people])
    rows = biographies.about(rng, asked, config)
    losses, predictions = _measure(model, rows, batch_size, dtype)
    kinds = biographies.attribute_of(rows["targets"], config)
    by_attribute = {name: float(losses[kinds == i].sum()) / len(asked) for i, name in enumerate(ATTRIBUTES)}
    known = bits(by_attribute, config)
    return {
        **biographies.score(predictions, rows, config),
        "loss": sum(by_attribute.values()) / VALUE_TOKENS,
        **{f"loss/{name}": loss for name, loss in by_attribute.items()},
        "bits": known,
        "bits_per_parameter": bits_per_parameter(known, sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model)))),
    }


def bits(losses: Mapping[str, float], config: BiographiesConfig) -> float:
    """Bits known about all people of `config`: {attribute: nats per value, mean over people} -> bits, at least 0.

    Raises ValueError where `losses` are not those of the six attributes.
    """
    if set(losses) != set(ATTRIBUTES):
        raise ValueError(f"bits: losses must be of {', '.join(ATTRIBUTES)}, got {', '.join(losses) or 'none'}")
    gains = [math.log2(v) - losses[name] / math.log(2) for name, v in biographies.possible(config).items()]
    return config.people * sum(max(0.0, gain) for gain in gains)


def bits_per_parameter(bits: float, parameters: int) -> float:
    """Bits over the number of parameters; ValueError where there are none."""
    if parameters < 1:
        raise ValueError(f"bits_per_parameter: parameters must be at least 1, got {parameters}")
    return bits / parameters


def plateau_loss(config: BiographiesConfig) -> float:
    """Nats per value token of a model that knows the frequencies of values (in training) but nobody.

    The mean over people, each counted once, and value tokens of -log(share of people who have it, weighted by
    `biographies.frequencies`): the mean log of the numbers of values for a large population without a power law.
    """
    values, weights = biographies.population(config).values, biographies.frequencies(config)
    shares = np.bincount(values.reshape(-1), np.repeat(weights, VALUE_TOKENS), biographies.vocabulary(config))
    return float(-np.log(shares[values]).mean())


def plateau_end(steps: Sequence[int], losses: Sequence[float], level: float, *, fraction: float = 0.9) -> int | None:
    """The first logged step whose loss is below `fraction` of the plateau; None if there is none.

    Args:
        steps: steps of the log, ascending.
        losses: loss of attributes at each of them, in the unit of `level`: "loss" of `knowledge`, or the training loss
            of a run on biographies with scored="values".
        level: loss on the plateau, `plateau_loss(config)`.
        fraction: of the level, above 0 and below 1; below it, something about people is known. The noise of one
            training batch stays within a few per cent.

    Raises ValueError where steps and losses differ in number, or the level or fraction is impossible.
    """
    if len(steps) != len(losses):
        raise ValueError(f"plateau_end: {len(steps)} steps but {len(losses)} losses")
    if not (0 < fraction < 1 and level > 0):
        raise ValueError(f"plateau_end: level must be positive and 0 < fraction < 1, got {level} and {fraction}")
    return next((step for step, loss in zip(steps, losses, strict=True) if loss < fraction * level), None)


def populations(tasks: Sequence[object]) -> tuple[BiographiesConfig, ...]:
    """The different populations and forms among task settings: rows of other lengths ask for the same facts."""
    lengths = {"text": biographies.BIOGRAPHY, "question": biographies.LONG}
    found = (task for task in tasks if isinstance(task, BiographiesConfig))
    return tuple(
        dict.fromkeys(dataclasses.replace(t, length=lengths[t.form], scored="values", power=0.0) for t in found)
    )


def _measure(model: LM, rows: biographies.Rows, batch_size: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Loss in nats (0 where not scored) and most likely token of every position of `rows`, each [R, T]."""
    most = int((rows["targets"] >= 0).sum(1).max())
    positions = np.argsort(rows["targets"] < 0, axis=1, kind="stable")[:, :most].astype(np.int32)
    targets = np.take_along_axis(rows["targets"], positions, axis=1)
    pieces = []
    for start in range(0, len(positions), batch_size):
        piece = [x[start : start + batch_size] for x in (rows["tokens"], positions, targets)]
        filled = [np.concatenate([x, np.repeat(x[:1], batch_size - len(x), axis=0)]) for x in piece]
        pieces.append(_losses(model, *filled, dtype=dtype))
    losses, predictions = np.zeros(rows["targets"].shape), np.full(rows["targets"].shape, -1)
    for out, found in zip((losses, predictions), zip(*pieces, strict=True), strict=True):
        np.put_along_axis(out, positions, np.concatenate([np.asarray(x) for x in found])[: len(positions)], axis=1)
    return np.where(rows["targets"] >= 0, losses, 0.0), predictions


@functools.partial(jax.jit, static_argnames="dtype")
def _losses(
    model: LM, tokens: Int[jax.Array, "B T"], positions: Int[jax.Array, "B K"], targets: Int[jax.Array, "B K"], *, dtype
) -> tuple[Float[jax.Array, "B K"], Int[jax.Array, "B K"]]:
    tokens, positions, targets = split_rows((tokens, positions, targets))
    hidden = model.hidden(tokens, taps={}, dtype=jnp.dtype(dtype)).hidden
    logits = model.logits(gather_positions(hidden, positions))
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(targets, 0))
    return whole((losses, jnp.argmax(logits, axis=-1).astype(jnp.int32)))
