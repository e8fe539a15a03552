"""Correctness first, then times in turns. What a contender raises becomes its row's reason."""

import dataclasses
import gc
import itertools
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from benchmarks import timing
from benchmarks.kernels.ceilings import Ceilings
from benchmarks.kernels.contender import Contender, NotApplicableError, Run
from benchmarks.kernels.problem import Problem
from tests.tolerances import GRADIENT_TOLERANCES, TOLERANCES, relative_rms

BLOCK_SECONDS = 0.03  # of calls in a row, enough to hide what one dispatch costs
MOST_CALLS = 50


class WrongResultError(ArithmeticError):
    """A contender whose numbers are off is not timed."""


@dataclasses.dataclass
class Row:
    """A contender at a problem, forward or with the gradient.

    Attributes:
        seconds: median over the rounds; None where it did not run.
        bytes_per_second, flops_per_second: of the problem's own count.
        of_copy, of_matmul: the same, as shares of the ceilings.
        errors: relative RMS error by result, against float64.
        reason: why there is no time.
        remark: results of a peer that are further off than ours may be.
    """

    op: str
    shape: str
    mode: str
    contender: str
    seconds: float | None = None
    bytes_per_second: float | None = None
    flops_per_second: float | None = None
    of_copy: float | None = None
    of_matmul: float | None = None
    errors: dict[str, float] = dataclasses.field(default_factory=dict)
    reason: str = ""
    remark: str = ""


def measure(
    problem: Problem,
    contenders: Mapping[str, Contender],
    ceilings: Ceilings,
    rounds: int,
    key: jax.Array,
) -> list[list[Row]]:
    """The rows of a problem in each of its modes; the same inputs for all."""
    groups = [[Row(problem.op, problem.label, mode, name) for name in contenders] for mode in problem.modes]
    try:
        arrays = jax.block_until_ready(jax.jit(problem.draw)(key))
        truth = problem.truth(arrays)
    except Exception as error:  # memory, most of all
        for row in itertools.chain(*groups):
            row.reason = f"no inputs: {reason(error)}"
        return groups
    for gradient, rows in enumerate(groups):
        _compare(problem, contenders, arrays, truth, bool(gradient), rows, rounds)
        for row in rows:
            _rates(row, problem, bool(gradient), ceilings)
        release()
    return [rows for rows in groups if rows]


def _compare(problem, contenders, arrays, truth, gradient, rows: list[Row], rounds) -> None:
    """Fills in errors, seconds and reasons, and takes out the rows of contenders that have nothing to do with it."""
    runs = {}
    for row in list(rows):
        check = lambda row=row: _ready(contenders[row.contender], problem, arrays, truth, gradient, row)
        try:
            run = _attempt(row, check)
        except NotApplicableError:
            rows.remove(row)
            continue
        if run is not None:
            runs[row.contender] = _timed(row, *run)
    if not runs:
        return
    seconds = timing.alternate(runs, rounds)
    for row in rows:
        if not row.reason:
            row.seconds = timing.median(seconds[row.contender])


def _ready(contender: Contender, problem, arrays, truth, gradient, row: Row) -> tuple[Run, int]:
    """The contender, its results held to the tolerances, and how many calls make a block."""
    run = contender(problem, arrays, gradient)
    results = run.results()
    if run.same:
        row.errors, row.remark = errors(problem, problem.sample(results, arrays), truth)
        if row.remark and run.ours:
            raise WrongResultError(row.remark)
    del results
    return run, max(1, min(MOST_CALLS, math.ceil(BLOCK_SECONDS / run.block(1))))


def errors(
    problem: Problem, results: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray]
) -> tuple[dict[str, float], str]:
    """Relative RMS errors by name, and those that the tests' table of tolerances does not allow, in words."""
    found = {name: relative_rms(x, truth[name]) for name, x in results.items()}
    limit = lambda name: (GRADIENT_TOLERANCES if name.startswith("d ") else TOLERANCES)[problem.dtype]
    off = [name for name, error in found.items() if not error <= limit(name)]  # a NaN too
    words = "; ".join(f"{name} is off by {found[name]:.3g}, allowed {limit(name):.3g}" for name in off)
    return {name: error for name, error in found.items() if math.isfinite(error)}, words


def _timed(row: Row, run: Run, calls: int) -> Callable[[], float]:
    """A block for `timing.alternate`, which goes on without a contender that fails on the way."""

    def block() -> float:
        seconds = None if row.reason else _attempt(row, lambda: run.block(calls))
        return math.nan if seconds is None else seconds

    return block


def _attempt(row: Row, function: Callable[[], Any]) -> Any:
    try:
        return function()
    except NotApplicableError:
        raise
    except Exception as error:
        row.reason = reason(error)
        return None


def release() -> None:
    """Hands memory back that nothing uses any more: torch keeps what it once had, and jax needs it next."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def reason(error: Exception) -> str:
    """An exception in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:240]}{'...' if len(text) > 240 else ''}"


def _rates(row: Row, problem: Problem, gradient: bool, ceilings: Ceilings) -> None:
    if row.seconds is None or not row.errors:
        return  # attention has counts of its own
    row.bytes_per_second = problem.bytes(gradient) / row.seconds
    row.flops_per_second = problem.flops(gradient) / row.seconds
    row.of_copy = row.bytes_per_second / ceilings.bytes
    row.of_matmul = row.flops_per_second / ceilings.flops
