"""Rows of packed documents for the tests of ops that read segment ids."""

from typing import Any

import numpy as np


def packing(case: Any, rng: np.random.Generator) -> np.ndarray | None:
    """Segment ids [batch, time] of a case: documents of odd lengths with padding before, between and behind them.

    None for a case that is not `packed`. Row b begins with b tokens of padding.
    """
    if not case.packed:
        return None
    rows = []
    for row in range(case.batch):
        ids, number = [0] * row, 0
        while len(ids) < case.time:
            number += 1
            ids += [number] * int(rng.integers(1, 40)) + [0] * int(rng.integers(0, 3))
        rows.append(ids[: case.time])
    return np.asarray(rows, np.int32)
