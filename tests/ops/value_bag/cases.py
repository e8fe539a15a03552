"""Shapes that the value bag is tested at, and its definition in float64."""

import dataclasses

import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Case:
    """lead and bag (J) of `indices`; the table's rows M and width V; how the rows are drawn."""

    lead: tuple[int, ...]
    bag: int
    rows: int = 50
    width: int = 6
    kind: str = "any"


CASES = [
    Case((40,), 9, kind="outside"),
    Case((2, 3), 5, rows=1000),  # more rows than reads
    Case((30,), 1, kind="skewed"),
    Case((), 1, rows=1, width=1),
]


def draw(case, rng):
    """values, indices, weights, and a cotangent of the output."""
    shape = (*case.lead, case.bag)
    indices = rng.integers(0, case.rows, size=shape)
    if case.kind == "skewed":
        indices = (rng.random(shape) ** 6 * case.rows).astype(int)
    if case.kind == "outside":
        indices = rng.integers(-5, case.rows + 5, size=shape)
        indices[0] = -1  # a token that reads nothing
    values, cotangent = rng.normal(size=(case.rows, case.width)), rng.normal(size=(*case.lead, case.width))
    return values, indices.astype(np.int32), rng.normal(size=shape), cotangent


def by_hand(values, indices, weights, cotangent):
    """Output, and the gradients of values and weights, read by read."""
    tables = (np.zeros(cotangent.shape), np.zeros(values.shape), np.zeros(weights.shape))
    o, d_values, d_weights = tables
    for at in np.ndindex(indices.shape):
        row, token = indices[at], at[:-1]
        if 0 <= row < len(values):
            o[token] += weights[at] * values[row]
            d_values[row] += weights[at] * cotangent[token]
            d_weights[at] = values[row] @ cotangent[token]
    return tables


def dots_by_hand(values, indices, x, cotangent):
    """The dots of the rows with x, and the gradients of values and x, read by read."""
    tables = (np.zeros(indices.shape), np.zeros(values.shape), np.zeros(x.shape))
    s, d_values, d_x = tables
    for at in np.ndindex(indices.shape):
        row, token = indices[at], at[:-1]
        if 0 <= row < len(values):
            s[at] = values[row] @ x[token]
            d_values[row] += cotangent[at] * x[token]
            d_x[token] += cotangent[at] * values[row]
    return tables


# the rows of 50 reads of a table of 20; 20 and more are nothing
RUNS = {
    "some": lambda rng: rng.integers(0, 23, 50),
    "skewed": lambda rng: rng.random(50) ** 6 * 21,
    "one": lambda _: np.full(50, 7),  # a run over all blocks
    "whole": lambda _: np.append(np.repeat(np.arange(6), 8), [19, 20]),  # runs of 8, as many as a block or a group
    "nothing": lambda _: np.full(50, 20),
}


def draw_runs(kind, rng):
    """rows, tokens and weights of sorted reads, a cotangent [6, 128], and the table's gradient in float64."""
    rows = np.sort(RUNS[kind](rng).astype(np.int32)).clip(0, 20)
    tokens, weights = rng.integers(0, 6, rows.size).astype(np.int32), rng.normal(size=rows.size).astype(np.float32)
    cotangent = rng.normal(size=(6, 128)).astype(np.float32)
    wanted = np.zeros((21, 128))
    np.add.at(wanted, rows, weights[:, None] * cotangent[tokens].astype(float))
    return (rows, tokens, weights, cotangent), wanted[:20]


def as_float32(inputs):
    return [jnp.asarray(x, x.dtype if x.dtype.kind == "i" else jnp.float32) for x in inputs]
