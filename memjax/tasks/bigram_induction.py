"""Bigrams and induction mixed: most tokens follow a fixed Markov chain, a few follow what the row has shown.

Source: Bietti et al., "Birth of a Transformer: A Memory Viewpoint" (2023, https://arxiv.org/abs/2306.00802).

A chain says which symbols follow which, the same in all rows: knowledge of the weights. But after each of `triggers`
symbols stands one successor, drawn for the row: knowledge of the context. One row with triggers P and Q, of length 12;
in this row P is followed by d, and Q by a:

    position     0   1   2   3   4   5   6   7   8   9  10  11     (12)
    tokens       c   P   d   b   Q   a   P   d   a   c   Q   a      P
    targets      P   d   b   Q   a   P   d   a   c   Q   a   P             scored="all"
                 .   .   .   .   .   .   d   .   .   .   a   .             scored="induction"

targets[t] is tokens[t + 1], to be predicted AT position t. `score` counts the second and later occurrences of a trigger
(positions 6 and 10) whatever is trained on: what comes after the first one nobody can know. With scored="all", as
published, training sees every next token, bigrams are learnt first, and recall emerges later.

The chain: the r-th most likely successor of a symbol has probability proportional to 1 / r, in an order of its own for
each symbol, drawn from `chain_seed`. Successors of triggers are uniform over the symbols that are no triggers.

Where we differ: the published chain is that of the characters of Shakespeare, whose triggers are drawn by frequency;
ours needs no text. A published successor may be a trigger, even its own, after which a row can go in circles; ours may
not. With `random_triggers` (published too) each row has triggers of its own, and since a row does not say which, only
scored="induction" can be scored.
"""

import dataclasses
import functools
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from memjax.tasks._base import Predictions, Rows, TaskConfig, changed
from memjax.tasks._per_row import hits

_UNIT = 2**20  # weight of the most likely successor; whole numbers, so that draws are the same on every machine


@dataclasses.dataclass(frozen=True)
class BigramInductionConfig(TaskConfig):
    """Which chain, and which rows of it. Raises ValueError where there are none."""

    vocab_size: int = 65
    """Number of distinct token ids, at least `symbols`."""
    length: int = 128
    """Length of a row, in tokens; published 256."""
    symbols: int = 65
    """Symbols of the chain, N."""
    triggers: int = 5
    """Symbols whose successor belongs to the row, K."""
    random_triggers: bool = False
    """Draw the triggers anew for each row."""
    scored: Literal["all", "induction"] = "all"
    """Train every next token, or those after the second and later occurrences of a trigger."""
    chain_seed: int = 0
    """Seed of the chain and of fixed triggers; the rng that draws examples has no part in them."""

    def __post_init__(self):
        if self.length < 3:
            raise ValueError(f"bigram_induction: length must be at least 3, got {self.length}")
        if not 1 <= self.triggers < self.symbols:
            raise ValueError(
                f"bigram_induction: triggers {self.triggers} must lie below symbols {self.symbols}, from 1"
            )
        if self.vocab_size < self.symbols:
            raise ValueError(f"bigram_induction: vocab_size {self.vocab_size} is less than symbols {self.symbols}")
        if self.chain_seed < 0:
            raise ValueError(f"bigram_induction: chain_seed must not be negative, got {self.chain_seed}")
        if self.scored not in ("all", "induction"):
            raise ValueError(f'bigram_induction: scored must be "all" or "induction", got {self.scored!r}')
        if self.random_triggers and self.scored == "all":
            raise ValueError('bigram_induction: random_triggers needs scored="induction", got "all"')


Config = BigramInductionConfig


def chain(config: BigramInductionConfig) -> tuple[Int[np.ndarray, "N N"], Int[np.ndarray, "N"]]:
    """Returns the chain: successors of each symbol, the most likely first, and the symbols, triggers first."""
    return _chain(config.symbols, config.chain_seed)


@functools.lru_cache(maxsize=8)
def _chain(symbols: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    successors = rng.permuted(np.tile(np.arange(symbols), (symbols, 1)), axis=1)
    found = successors, rng.permutation(symbols)
    for array in found:
        array.flags.writeable = False
    return found


def generate(rng: np.random.Generator, n: int, config: BigramInductionConfig) -> Rows:
    """Draws `n` rows: random triggers if any, their successors, first symbols, ranks of all further symbols.

    Args:
        rng: the source of all draws.
        n: number of rows.
        config: which chain and rows.

    Returns:
        "tokens" and "targets", int32 [n, length]; a target is the next token, or -1 (not scored).
    """
    successors, every = chain(config)
    every = np.tile(every, (n, 1))
    every = rng.permuted(every, axis=1) if config.random_triggers else every
    triggers, others = every[:, : config.triggers], every[:, config.triggers :]
    drawn = rng.integers(others.shape[1], size=triggers.shape)
    shown = np.full((n, config.symbols), -1)  # successor of each symbol in its row, -1: that of the chain
    np.put_along_axis(shown, triggers, np.take_along_axis(others, drawn, axis=1), axis=1)

    stream = np.zeros((n, config.length + 1), np.int32)
    stream[:, 0] = rng.integers(config.symbols, size=n)
    ends = np.cumsum(_UNIT // np.arange(1, config.symbols + 1))
    ranks = np.searchsorted(ends, rng.integers(ends[-1], size=(n, config.length)), side="right")
    for t in range(config.length):
        here = stream[:, t]
        there = shown[np.arange(n), here]
        stream[:, t + 1] = np.where(there < 0, successors[here, ranks[:, t]], there)
    tokens, targets = stream[:, :-1].copy(), stream[:, 1:].copy()
    if config.scored == "induction":
        targets[~_repeated(tokens, triggers)] = -1
    return {"tokens": tokens, "targets": targets}


def _repeated(tokens: Int[np.ndarray, "n T"], triggers: Int[np.ndarray, "n K"]) -> Bool[np.ndarray, "n T"]:
    """Where a trigger of the row stands that stood there before."""
    repeated = np.zeros(tokens.shape, bool)
    for trigger in triggers.T:
        at = tokens == trigger[:, None]
        repeated |= at & (at.cumsum(1) > 1)
    return repeated


def score(predictions: Predictions, data: Rows, config: BigramInductionConfig) -> dict[str, float]:
    """Scores predicted tokens, per token: rows with more repeated triggers count more.

    Args:
        predictions: [n, T], the token predicted at each position.
        data: what `generate` returned.
        config: which triggers.

    Returns:
        "accuracy": share of right successors after the second and later occurrences of triggers, 0 where no trigger
        stands twice; with scored="all" also "bigram_accuracy", the same after symbols that are no triggers (about 0.2
        at most: the chain is random).
    """
    right, asked = hits(predictions, data)
    if config.scored == "induction":
        return {"accuracy": _share(right[asked])}
    triggers = chain(config)[1][: config.triggers]
    again = _repeated(data["tokens"], np.tile(triggers, (len(right), 1)))
    bigrams = ~np.isin(data["tokens"], triggers)
    return {"accuracy": _share(right[again]), "bigram_accuracy": _share(right[bigrams])}


def _share(right: Bool[np.ndarray, "N"]) -> float:
    return float(right.mean()) if right.size else 0.0


def scored(config: BigramInductionConfig) -> int:
    """Returns an upper bound of the scored positions in a row."""
    if config.scored == "all":
        return config.length
    return (config.length + 1) // 2 - 1  # no trigger follows another, and one is the first


def describe(config: BigramInductionConfig) -> dict[str, int | bool]:
    """Returns the axes that a report shows."""
    sizes = {"symbols": config.symbols, "triggers": config.triggers, "length": config.length}
    return {**sizes, **changed(config, "random_triggers")}


def chance(config: BigramInductionConfig) -> float:
    """Returns the accuracy of guessing any symbol that is no trigger."""
    return 1.0 / (config.symbols - config.triggers)
