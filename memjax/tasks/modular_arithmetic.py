"""Modular arithmetic: the value of a sum and product of digits, modulo 5, with or without brackets.

Sources: Deletang et al., "Neural Networks and the Chomsky Hierarchy" (2022, https://arxiv.org/abs/2207.02098), where
the one without brackets is a regular language and the one with brackets is context-free; the lengths and the scaled
accuracy of Grazzi et al. (2024, https://arxiv.org/abs/2411.12537).

Two rows of length 10 (modulus 5; digits are tokens 0-4, then `+ - * = ( )`); the value stands AT the first `=`:

    position    0  1  2  3  4  5  6  7  8  9
    tokens      2  +  3  *  4  -  1  =  =  =     2 + 12 - 1 = 13
    targets     .  .  .  .  .  .  .  3  .  .

    tokens      (  -  2  *  (  4  )  )  =  =     -2 * 4 = -8           brackets=True
    targets     .  .  .  .  .  .  .  .  2  .

Without brackets `*` binds before `+` and `-`, so that a state of two digits, the sum of the finished products and the
product in hand, is enough. With brackets an expression of 1 token is a digit, of 2 a negated digit, of 3 or 4 one of
these in brackets, and a longer one is two expressions and an operator in brackets, the split drawn uniformly; its
depth is not bounded, so that the state grows with it.

Traps: train on many lengths (`min_length=3, length=40`), evaluate beyond (40 to 256). Products are more often 0 than
anything else: with brackets and `multiplication` the constant answer 0 gets 0.27 of such rows right (in the other three
cases 0.2, measured), so read accuracy against that too.
Where we differ: Deletang et al. put blanks into rows without brackets, and leave `*` out of rows with brackets unless
asked (`multiplication=False`).
"""

import dataclasses

import numpy as np
from jaxtyping import Int

from memjax.tasks._base import Predictions, Rows, TaskConfig, changed
from memjax.tasks._per_row import scale, score_rows

SYMBOLS = "+-*=()"
"""What the tokens from `modulus` on stand for."""
PLUS, MINUS, TIMES, EQUALS, OPEN, CLOSE = range(len(SYMBOLS))


@dataclasses.dataclass(frozen=True)
class ModularArithmeticConfig(TaskConfig):
    """Which expressions to draw. Raises ValueError where there is none."""

    vocab_size: int = 16
    """Number of distinct token ids: the digits and six symbols."""
    length: int = 40
    """Length of a row, in tokens, at least one `=` included."""
    min_length: int | None = None
    """Fewest tokens of an expression, whose length is drawn uniformly from there on; None: as long as the row allows.
    Without brackets lengths are odd."""
    modulus: int = 5
    """Number of digits, from 2."""
    brackets: bool = False
    """Nested expressions in brackets, and negated digits."""
    multiplication: bool = True
    """Draw `*` beside `+` and `-`."""

    def __post_init__(self):
        if self.modulus < 2:
            raise ValueError(f"modular_arithmetic: modulus must be at least 2, got {self.modulus}")
        if self.vocab_size < (needed := self.modulus + len(SYMBOLS)):
            raise ValueError(f"modular_arithmetic: needs a vocab_size of at least {needed}, got {self.vocab_size}")
        if self.length < 2:
            raise ValueError(f"modular_arithmetic: length must be at least 2, got {self.length}")
        if self.min_length is not None and not 1 <= self.min_length <= _most(self):
            raise ValueError(
                f"modular_arithmetic: min_length {self.min_length} does not lie between 1 and {_most(self)}"
            )


Config = ModularArithmeticConfig


def _most(config: ModularArithmeticConfig) -> int:
    """Tokens of the longest expression of a row."""
    return config.length - 1 if config.brackets else 2 * (config.length // 2) - 1


def generate(rng: np.random.Generator, n: int, config: ModularArithmeticConfig) -> Rows:
    """Draws `n` rows: first the length of each expression, then what stands in it.

    Args:
        rng: the source of all draws.
        n: number of rows.
        config: which expressions.

    Returns:
        "tokens" and "targets", int32 [n, length]; a target is the value of the expression, or -1 (not scored).
    """
    most = _most(config)
    least = most if config.min_length is None else config.min_length
    if config.brackets:
        sizes = rng.integers(least, most + 1, size=n)
        tokens, values = _nested(rng, sizes, config)
    else:
        sizes = 2 * rng.integers(least // 2, most // 2 + 1, size=n) + 1
        tokens, values = _flat(rng, sizes, config)
    targets = np.full((n, config.length), -1, np.int32)
    targets[np.arange(n), sizes] = values
    return {"tokens": tokens.astype(np.int32), "targets": targets}


def _flat(
    rng: np.random.Generator, sizes: Int[np.ndarray, "n"], config: ModularArithmeticConfig
) -> tuple[Int[np.ndarray, "n T"], Int[np.ndarray, "n"]]:
    """Rows without brackets, and their values."""
    n, terms = len(sizes), config.length // 2
    digits = rng.integers(config.modulus, size=(n, terms))
    operators = rng.integers(_operators(config), size=(n, terms))  # the first one of a row is not used
    tokens = np.full((n, config.length), config.modulus + EQUALS)
    tokens[:, 0 : 2 * terms : 2] = digits
    tokens[:, 1 : 2 * terms - 1 : 2] = config.modulus + operators[:, 1:]
    tokens[np.arange(config.length) >= sizes[:, None]] = config.modulus + EQUALS
    finished, product = np.zeros(n, np.int64), digits[:, 0]
    for i in range(1, terms):
        there, operator, times = 2 * i < sizes, operators[:, i], operators[:, i] == TIMES
        signed = np.where(operator == MINUS, -digits[:, i], digits[:, i])
        finished = np.where(there & ~times, finished + product, finished) % config.modulus
        product = np.where(there, np.where(times, product * digits[:, i], signed), product) % config.modulus
    return tokens, (finished + product) % config.modulus


def _nested(
    rng: np.random.Generator, sizes: Int[np.ndarray, "n"], config: ModularArithmeticConfig
) -> tuple[Int[np.ndarray, "n T"], Int[np.ndarray, "n"]]:
    """Rows with brackets, and their values."""
    tokens = np.full((len(sizes), config.length), config.modulus + EQUALS)
    values = np.zeros(len(sizes), np.int64)
    for i, size in enumerate(sizes.tolist()):
        tokens[i, :size], values[i] = _expression(rng, size, config)
    return tokens, values


def _expression(rng: np.random.Generator, size: int, config: ModularArithmeticConfig) -> tuple[list[int], int]:
    """An expression of `size` tokens, and its value."""
    symbol = lambda which: [config.modulus + which]
    if size < 3:
        digit = int(rng.integers(config.modulus))
        return ([digit], digit) if size == 1 else ([*symbol(MINUS), digit], -digit % config.modulus)
    if size < 5:
        inner, value = _expression(rng, size - 2, config)
        return symbol(OPEN) + inner + symbol(CLOSE), value
    first = int(rng.integers(1, size - 3))
    operator = int(rng.integers(_operators(config)))
    left, a = _expression(rng, first, config)
    right, b = _expression(rng, size - 3 - first, config)
    value = (a + b, a - b, a * b)[operator] % config.modulus
    return symbol(OPEN) + left + symbol(operator) + right + symbol(CLOSE), value


def _operators(config: ModularArithmeticConfig) -> int:
    return 3 if config.multiplication else 2


def score(predictions: Predictions, data: Rows, config: ModularArithmeticConfig) -> dict[str, float]:
    """Scores predicted values.

    Args:
        predictions: [n, T], the token predicted at each position.
        data: what `generate` returned.
        config: which expressions; for the chance level.

    Returns:
        "accuracy": share of rows with the right value; "scaled_accuracy": the same with a uniform guess at 0 and all
        right at 1 (the published metric).
    """
    accuracy = score_rows(predictions, data)["accuracy"]
    return {"accuracy": accuracy, "scaled_accuracy": scale(accuracy, chance(config))}


def scored(config: ModularArithmeticConfig) -> int:
    """Returns the number of scored positions in a row."""
    return 1


def describe(config: ModularArithmeticConfig) -> dict[str, int | bool]:
    """Returns the axes that a report shows."""
    axes = {"brackets": config.brackets, "modulus": config.modulus, "length": config.length}
    return {**axes, **changed(config, "min_length", "multiplication")}


def chance(config: ModularArithmeticConfig) -> float:
    """Returns the accuracy of guessing any digit."""
    return 1.0 / config.modulus
