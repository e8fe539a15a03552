"""Kernels of the ops with a matrix a head on each device of a mesh, batch over `data` and `fsdp`, heads over `tensor`.

A kernel's two passes take (q, k, v, log_decay, beta, state, index), with None for what an op has not, and

    forward  -> (o, final_state, inverse [N, B, G, C, C]), the inverse None without beta
    backward(..., inverse, d_o, d_final) -> the gradients of all but the index, None for None
"""

from collections.abc import Callable
from typing import Any

from memjax.ops import mesh


def forward(kernel: Callable, *inputs: Any) -> tuple[Any, ...]:
    """(o, final_state) and with a beta the inverse, of the `kernel` on each device's part."""
    given = inputs[4] is not None
    out_dims = ("b.s.", "bs..", ".bs..")[: 2 + given]
    return _on_each(lambda *local: kernel(*local)[: 2 + given], inputs, (), out_dims)


def backward(kernel: Callable, *inputs: Any) -> tuple[Any, ...]:
    """The gradients, None for None, of the `kernel` on each device's part."""
    *arguments, inverse, d_o, d_final = inputs
    there = [x is not None for x in arguments[:-1]]
    keep = lambda found: tuple(x for x, given in zip(found, there, strict=True) if given)
    local = lambda *local: keep(kernel(*local))
    found = iter(_on_each(local, arguments, (inverse, d_o, d_final), keep(_dims(arguments[3])[:-1])))
    return tuple(next(found) if given else None for given in there)


def without_beta(forward: Callable, backward: Callable) -> tuple[Callable, Callable]:
    """The passes of a back end of linear attention, from those of one of the delta rule."""

    def linear_forward(q, k, v, log_decay, state, index, **options):
        return forward(q, k, v, log_decay, None, state, index, **options)

    def linear_backward(q, k, v, log_decay, state, index, d_o, d_final, **options):
        *gradients, _, d_state = backward(q, k, v, log_decay, None, state, index, None, d_o, d_final, **options)
        return (*gradients, d_state)

    return linear_forward, linear_backward


def _dims(log_decay):
    gate = "b.s." if log_decay is not None and log_decay.ndim == 4 else "b.s"
    return ("b.s.", "b.s.", "b.s.", gate, "b.s", "bs..", "b.")


def _on_each(local, arguments, more, out_dims):
    q, _, v, log_decay, *_ = arguments
    dims = (*_dims(log_decay), *(".bs..", "b.s.", "bs..")[: len(more)])
    sizes = {"batch": q.shape[0], "split": (q.shape[2], v.shape[2])}
    return mesh.kernel_on_each(local, (*arguments, *more), dims, out_dims, **sizes)
