"""Prefixes that requests share, as trees: what hangs on a node begins where the node's tokens end.

    [end] The passage ... Question:            one node, whose state is computed once
       |-- who? Answer: -- Ann | -- Bob        another, and two continuations that are scored
       |-- when? Answer: ...

A memory's state after a prefix is all that its continuations need, so sharing is exact and costs one state a node.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

LEAST = 32  # tokens that a shared prefix must have: a node is one more, smaller, call of the model
LEVELS = 3  # of shared prefixes on a path (preamble, document, question): bounds the states that live at once


class Row(NamedTuple):
    """What one request feeds to the model.

    Attributes:
        tokens: the input.
        targets: the token to predict at each position; -1 where nothing is scored.
    """

    tokens: Int32[np.ndarray, "T"]
    targets: Int32[np.ndarray, "T"]


@dataclasses.dataclass(frozen=True)
class Node:
    """A piece of a row, to be fed to the state that its parent leaves.

    Attributes:
        row: the tokens and targets of this piece; a piece that is shared scores nothing.
        request: the number of the row that ends here; None inside the tree.
        children: what continues from here.
    """

    row: Row
    request: int | None
    children: tuple["Node", ...] = ()


def make_row(tokens: Sequence[int], scored: int) -> Row:
    """The row that predicts the last `scored` of `tokens`, each from all before it; the last token is no input."""
    ids = np.asarray(tokens, np.int32)
    return Row(ids[:-1], np.where(np.arange(1, len(ids)) >= len(ids) - scored, ids[1:], -1).astype(np.int32))


def prefix_trees(rows: Sequence[Row]) -> tuple[Node, ...]:
    """The rows as trees: the pieces on the way to the node of request i are, joined, `rows[i]`.

    A piece is shared where two or more rows have at least `LEAST` tokens in common, before the first one that either
    is scored on, and at most `LEVELS` times on a path. What is scored is never shared: its targets may differ.
    """
    prefixes = [_unscored(row) for row in rows]
    # Big-endian bytes sort like the numbers that they are.
    order = sorted(range(len(rows)), key=lambda i: prefixes[i].astype(">u4").tobytes())
    common = [_common(prefixes[i], prefixes[j]) for i, j in itertools.pairwise(order)]
    return _grow(rows, order, common, start=0, levels=LEVELS)


def _grow(rows, order: list[int], common: list[int], *, start: int, levels: int) -> tuple[Node, ...]:
    """Trees of the rows `order`, which agree up to `start`; neighbours agree on `common` tokens."""
    nodes, first = [], 0
    for last in range(len(order)):
        if levels and last + 1 < len(order) and common[last] >= start + LEAST:
            continue
        group, inside = order[first : last + 1], common[first:last]
        if inside:
            end = min(inside)
            children = _grow(rows, group, inside, start=end, levels=levels - 1)
            nodes.append(Node(_piece(rows[group[0]], start, end), None, children))
        else:
            nodes.extend(Node(_piece(rows[i], start, None), i) for i in group)
        first = last + 1
    return tuple(nodes)


def _piece(row: Row, start: int, end: int | None) -> Row:
    return Row(row.tokens[start:end], row.targets[start:end])


def _unscored(row: Row) -> np.ndarray:
    """The tokens before the first position that is scored."""
    scored = np.flatnonzero(row.targets >= 0)
    return row.tokens[: scored[0]] if len(scored) else row.tokens


def _common(a: np.ndarray, b: np.ndarray) -> int:
    """Length of the common beginning."""
    size = min(len(a), len(b))
    differ = np.flatnonzero(a[:size] != b[:size])
    return int(differ[0]) if len(differ) else size
