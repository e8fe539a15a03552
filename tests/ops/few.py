"""Cases of which the second row of versions runs a few."""

from collections.abc import Collection, Sequence
from typing import Any

import pytest


def by_case(cases: Sequence[Any], fast: Collection[int]) -> pytest.MarkDecorator:
    """Parametrises a test's `case`; all but those with the numbers `fast` are marked slow."""
    marks = lambda number: () if number in fast else pytest.mark.slow
    return pytest.mark.parametrize(
        "case", [pytest.param(case, id=str(case), marks=marks(n)) for n, case in enumerate(cases)]
    )
