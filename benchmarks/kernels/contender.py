"""Who runs a problem: the implementations of our ops, and attention on the same q, k and v."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from benchmarks.kernels.matrices import Matrix
from benchmarks.kernels.problem import Arrays, Problem, gradient_of

KERNELS = ("pallas_tpu", "pallas_gpu")
ATTENTION = "attention"


class NotApplicableError(Exception):
    """The contender has nothing to do with such a problem, and gets no row."""


class Run(NamedTuple):
    """A contender on a problem, compiled.

    Attributes:
        results: one call, and what it computed, by the names of the problem's results.
        block: (calls) -> seconds of one, of so many in a row between two moments at which the device is idle.
        same: whether it computes what the problem asks for; attention does not.
        ours: whether the tolerances bind it; a peer that misses them is timed, with a remark.
    ours: whether the tolerances bind it; a peer that misses them is timed, with a remark.
    """

    results: Callable[[], Arrays]
    block: Callable[[int], float]
    same: bool = True
    ours: bool = True


Contender = Callable[[Problem, Mapping[str, jax.Array], bool], Run]
"""(problem, arrays, with the gradient) -> Run; raises what keeps it from running, or NotApplicableError."""


def implementation(name: str) -> Contender:
    """One of our op's implementations."""

    def prepare(problem: Problem, arrays: Arrays, gradient: bool) -> Run:
        call = problem.gradient if gradient else problem.forward
        return of_jax(lambda x: call(x, name), arrays)

    return prepare


def attention(problem: Problem, arrays: Arrays, gradient: bool) -> Run:
    """Causal softmax attention: cuDNN's on a GPU, the Pallas flash kernel of jax on a TPU, XLA's elsewhere."""
    if not isinstance(problem, Matrix):
        raise NotApplicableError
    attend = lambda x: _ATTENTION[jax.default_backend()](x["q"], x["k"], x["v"])
    inputs = {name: arrays[name] for name in ("q", "k", "v", "cotangent")}
    function = (lambda x: gradient_of(attend, x, ("q", "k", "v"))) if gradient else lambda x: {"o": attend(x)}
    return of_jax(function, inputs)._replace(same=False)


def of_jax(function: Callable[[Arrays], Any], arrays: Arrays) -> Run:
    """`function` of the arrays, compiled at its first call."""
    function = jax.jit(function)

    def block(calls: int) -> float:
        started = time.perf_counter()
        for _ in range(calls - 1):
            function(arrays)
        jax.block_until_ready(function(arrays))
        return (time.perf_counter() - started) / calls

    return Run(lambda: jax.block_until_ready(function(arrays)), block)


def _flash(q, k, v):
    from jax.experimental.pallas.ops.tpu import flash_attention

    q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))  # to [B, H, T, D]
    o = flash_attention.flash_attention(q, k, v, causal=True, sm_scale=q.shape[-1] ** -0.5)
    return o.swapaxes(1, 2)


_ATTENTION = {
    "gpu": lambda *x: jax.nn.dot_product_attention(*x, is_causal=True, implementation="cudnn"),
    "tpu": _flash,
    "cpu": lambda *x: jax.nn.dot_product_attention(*x, is_causal=True, implementation="xla"),
}
