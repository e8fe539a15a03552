"""The derivative of an op with a matrix a head, whichever back end runs: all keep the same of the forward pass.

A back end is a module with

    forward(*inputs, scale) -> (o, final_state, *kept)      backward(*inputs, *kept, d_o, d_final, scale) -> d_inputs

where the last input is the number of each token's document [B, T], or None, and has no derivative. Kernels take the
keyword `interpret` as well. One rule around all of them, with the choice inside of it, is what lets the platform be
chosen when the program is lowered: a choice between differentiable functions would keep what each of them keeps.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax

from memjax.ops import implementations


class How(NamedTuple):
    """What a call is asked for: an implementation or None, the kernels that can serve, and the factor on q."""

    implementation: str | None
    kernels: tuple[str, ...]
    scale: float


def differentiable(back_ends: Callable[[], Mapping[str, Any]]) -> Callable:
    """run(how, *inputs) -> (o, final_state) with a derivative; `back_ends()`: the modules by name, with "xla"."""

    @partial(jax.custom_vjp, nondiff_argnums=(0,))
    def run(how, *inputs):
        return forward(how, *inputs)[0]

    def by_platform(how, part, *inputs):
        form = lambda name: partial(getattr(back_ends()[name], part), scale=how.scale)
        kernels = {name: form(name) for name in how.kernels}
        return implementations.run(how.implementation, kernels, {"default": form("xla")}, *inputs)

    def forward(how, *inputs):
        o, final, *kept = by_platform(how, "forward", *inputs)
        return (o, final), (*inputs, *kept)

    def backward(how, saved, cotangents):
        return (*by_platform(how, "backward", *saved, *cotangents), None)

    run.defvjp(forward, backward)
    return run
