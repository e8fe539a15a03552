"""The scan with its gradient, whichever implementation runs it: one `custom_vjp`, so that all keep the same residuals.

Kept for the backward: decay, h in the dtype of x (which is the output itself) and the initial state.
"""

from functools import partial
from typing import Any

import jax

from memjax.ops import implementations, mesh
from memjax.ops.linear_scan import pallas_gpu, pallas_tpu, tiling, xla

_KERNELS = {"pallas_tpu": pallas_tpu, "pallas_gpu": pallas_gpu}


def serving(decay: Any, x: Any, implementation: str | None) -> tuple[str, ...]:
    """The kernels that may run; None does not take one where XLA is expected to be faster."""
    refusals = {name: kernel.refusal(decay, x) for name, kernel in _KERNELS.items()}
    if implementation is None:
        refusals = {name: refusal or tiling.too_short(x.shape[1]) for name, refusal in refusals.items()}
    return implementations.serving("linear_scan", implementation, refusals)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def scan(decay, x, state, marks, reverse: bool, implementation: str | None, kernels: tuple[str, ...]):
    """h [B, T, D] in the dtype of x and the last state [B, D].

    Args:
        decay: [B, T, D] or [1, 1, D].
        x: [B, T, D] in decay's dtype; a real one may be narrower.
        state: [B, D] in decay's dtype.
        marks: None, or [B, T] as in `marks`.
        reverse: as in the public function.
        implementation: "xla", the name of a kernel, or None.
        kernels: what `serving` found.
    """
    return _forward(decay, x, state, marks, reverse, implementation, kernels)[0]


def _forward(decay, x, state, marks, reverse, implementation, kernels):
    h, last = _run("forward", (decay, x, state, marks), reverse, implementation, kernels)
    return (h, last), (decay, h, state, marks)


def _backward(reverse, implementation, kernels, saved, cotangents):
    return *_run("backward", (*saved, *cotangents), reverse, implementation, kernels), None


scan.defvjp(_forward, _backward)


def _run(direction, inputs, reverse, implementation, kernels):
    """`forward` or `backward` of what is chosen."""
    batch, _, width = inputs[1].shape
    form = lambda tiling: partial(getattr(xla, direction), reverse=reverse, tiling=tiling)
    forms = {"cpu": form(tiling.cpu(batch * width)), "default": form(tiling.default())}
    on_each = {name: partial(_on_each, _KERNELS[name], direction, reverse) for name in kernels}
    return implementations.run(implementation, on_each, forms, *inputs)


def _on_each(kernels, direction, reverse, *inputs, interpret):
    """A kernel on each device's part of the rows and of the channels."""
    decay, (batch, _, width) = inputs[0], inputs[1].shape
    constant, backward = decay.shape[:2] == (1, 1), direction == "backward"
    dims = ("..s" if constant else "b.s", "b.s", "bs", "b.", "b.s", "bs")[: len(inputs)]
    out_dims = ("b.s", "b.s", "bs") if backward else ("b.s", "bs")
    kernel = partial(getattr(kernels, direction), reverse=reverse, interpret=interpret)
    out = mesh.kernel_on_each(kernel, inputs, dims, out_dims, batch=batch, split=width // kernels.UNIT)
    # a row of the gradient of a constant decay for each row of the batch, that may lie on several devices
    return (out[0].sum(0, keepdims=True), *out[1:]) if backward and constant else out
