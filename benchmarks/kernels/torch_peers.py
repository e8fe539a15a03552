"""Peers in torch, on the arrays of the problem where they lie: flash-linear-attention, and torch's embedding bag.

flash-linear-attention 0.6: `chunk_gated_delta_rule` (scalar gate), `chunk_kda` (channel gate), `chunk_simple_gla`,
`chunk_gla`, and `chunk_hgrn` for a linear scan, which takes the logarithm of the decay.
"""

import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

import jax

from benchmarks.kernels.contender import NotApplicableError, Run
from benchmarks.kernels.matrices import Matrix
from benchmarks.kernels.problem import Arrays, Problem
from benchmarks.kernels.scans import LinearScan
from benchmarks.kernels.tables import ValueBag

_FLA = {
    ("gated_delta_rule", "scalar"): ("fla.ops.gated_delta_rule", "chunk_gated_delta_rule"),
    ("gated_delta_rule", "channel"): ("fla.ops.kda", "chunk_kda"),
    ("gated_linear_attention", "scalar"): ("fla.ops.simple_gla", "chunk_simple_gla"),
    ("gated_linear_attention", "channel"): ("fla.ops.gla", "chunk_gla"),
}


class Peer(NamedTuple):
    """Attributes:
    inputs: what it is called with, by the problem's names; those in the problem's `wrt` are differentiated.
    call: of torch tensors by these names -> {"o": ..., "state": ...}.
    rename: makes of the gradients {"d NAME": ...} what the problem means by them.
    """

    inputs: Mapping[str, jax.Array]
    call: Callable[[Mapping[str, Any]], dict[str, Any]]
    rename: Callable[[dict[str, jax.Array]], Arrays] = lambda gradients: gradients


def fla(problem: Problem, arrays: Arrays, gradient: bool) -> Run:
    """flash-linear-attention's kernel for the problem."""
    if isinstance(problem, Matrix):
        module, name = _FLA[problem.op, problem.gate]
        kernel = getattr(import_module(module), name)

        def call(x):
            o, state = kernel(*(x[name] for name in problem.wrt), output_final_state=True)
            return {"o": o, "state": state}

        return _run(Peer({name: arrays[name] for name in problem.wrt}, call), problem, arrays, gradient)
    if isinstance(problem, LinearScan) and problem.dtype != "complex64" and not problem.constant:
        return _run(_hgrn(arrays), problem, arrays, gradient)
    raise NotApplicableError


def _hgrn(arrays: Arrays) -> Peer:
    kernel = import_module("fla.ops.hgrn").chunk_hgrn
    decay = arrays["decay"]

    def call(x):
        o, state = kernel(x["x"], x["decay"], output_final_state=True)
        return {"o": o, "state": state}

    rename = lambda gradients: {**gradients, "d decay": gradients["d decay"] / decay}
    return Peer({"x": arrays["x"], "decay": jax.numpy.log(decay)}, call, rename)


def embedding_bag(problem: Problem, arrays: Arrays, gradient: bool) -> Run:
    """torch's `embedding_bag` with weights, which it wants in the table's dtype."""
    import torch

    if not isinstance(problem, ValueBag):
        raise NotApplicableError
    inputs = {name: arrays[name] for name in ("values", "indices")}
    inputs["weights"] = arrays["weights"].astype(problem.dtype)

    def call(x):
        bag = torch.nn.functional.embedding_bag
        return {"o": bag(x["indices"], x["values"], per_sample_weights=x["weights"], mode="sum")}

    return _run(Peer(inputs, call), problem, arrays, gradient)


def _run(peer: Peer, problem: Problem, arrays: Arrays, gradient: bool) -> Run:
    import torch

    if jax.default_backend() == "gpu" and not torch.cuda.is_available():
        raise RuntimeError("this torch sees no GPU")
    inputs = {name: torch.from_dlpack(x).detach() for name, x in peer.inputs.items()}
    cotangent = torch.from_dlpack(arrays["cotangent"])
    wrt = [inputs[name].requires_grad_() for name in problem.wrt] if gradient else []

    def once() -> dict[str, Any]:
        with torch.set_grad_enabled(gradient):
            results = peer.call(inputs)
        if not gradient:
            return results
        gradients = torch.autograd.grad(results["o"], wrt, cotangent)
        return {"o": results["o"], **{f"d {name}": x for name, x in zip(problem.wrt, gradients, strict=True)}}

    def results() -> Arrays:
        jaxed = {name: jax.dlpack.from_dlpack(x.detach().contiguous()) for name, x in once().items()}
        return peer.rename(jaxed) if gradient else jaxed

    return Run(results, _events(once) if torch.cuda.is_available() else _wall(once), ours=False)


def _events(once: Callable[[], Any]) -> Callable[[int], float]:
    """Seconds a call by the GPU's own clock."""
    import torch

    def block(calls: int) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        for _ in range(calls):
            once()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3 / calls

    return block


def _wall(once: Callable[[], Any]) -> Callable[[int], float]:
    """Seconds a call on a CPU, where torch returns when its work is done."""

    def block(calls: int) -> float:
        started = time.perf_counter()
        for _ in range(calls):
            once()
        return (time.perf_counter() - started) / calls

    return block
