"""One gradient for the value bag and its dots, whichever implementation runs: each op is the other's backward.

What is kept for the backward is what came in, so all implementations share it.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from memjax.ops import implementations, mesh
from memjax.ops.value_bag import gradients, pallas_gpu, pallas_tpu, tiling, xla
from memjax.ops.value_bag.checks import check_rows

_KERNELS = {"pallas_tpu": pallas_tpu, "pallas_gpu": pallas_gpu}


class Choice(NamedTuple):
    """The implementation that was asked for ("xla", a kernel or None), and the kernels that may run."""

    implementation: str | None
    kernels: tuple[str, ...]


def choose(op, implementation, values, indices, other) -> Choice:
    """For values [M, V], indices [T, J] and weights or x. Raises as the ops document it.

    With None no kernel is taken where there is next to nothing to read: below `tiling.WORTH` bytes of rows a call is
    over before a kernel has its pipe full, and what it pads costs more than it saves.
    """
    refusals = {name: kernel.refusal(values, indices, other) for name, kernel in _KERNELS.items()}
    kernels = implementations.serving(op, implementation, refusals)
    few = indices.size * values.shape[1] * values.dtype.itemsize < tiling.WORTH
    return Choice(implementation, () if implementation is None and few else kernels)


def value_bag(values, indices, weights, dtype, choice):
    """Arguments as in `reference.value_bag`."""
    # before the custom gradient, so that what one device alone holds of it is summed over the devices
    return _bag(*mesh.varying_as((values, indices, weights), values, indices, weights), dtype, choice)


def row_dots(values, indices, x, choice):
    """Arguments as in `reference.row_dots`."""
    return _dots(*mesh.varying_as((values, indices, x), values, indices, x), choice)


def _run_bag(values, indices, weights, dtype, choice) -> jax.Array:
    kernels = {name: _batched(partial(_KERNELS[name].value_bag, dtype=dtype)) for name in choice.kernels}
    weights = weights.astype(gradients.wide(values, weights))
    default = partial(xla.value_bag, dtype=dtype)
    return implementations.run(choice.implementation, kernels, {"default": default}, values, indices, weights)


def _bag_backward(_, choice, saved, cotangent):
    values, indices, weights = saved
    d_values = gradients.dense(indices, weights, cotangent, values, choice.implementation)
    return d_values, None, _dots(values, indices, cotangent, choice).astype(weights.dtype)


def _run_dots(values, indices, x, choice) -> jax.Array:
    kernels = {name: _batched(_KERNELS[name].row_dots) for name in choice.kernels}
    x = x.astype(gradients.wide(values, x))
    return implementations.run(choice.implementation, kernels, {"default": xla.row_dots}, values, indices, x)


def _dots_backward(choice, saved, cotangent):
    values, indices, x = saved
    d_values = gradients.dense(indices, cotangent, x, values, choice.implementation)
    return d_values, None, _bag(values, indices, cotangent, x.dtype, choice)


_bag = jax.custom_vjp(_run_bag, nondiff_argnums=(3, 4))
_dots = jax.custom_vjp(_run_dots, nondiff_argnums=(3,))
_bag.defvjp(lambda *inputs: (_run_bag(*inputs), inputs[:3]), _bag_backward)
_dots.defvjp(lambda *inputs: (_run_dots(*inputs), inputs[:3]), _dots_backward)


def _batched(kernel: Callable) -> Callable:
    """The kernel on each device of a mesh; a mapped axis becomes more tokens, and more rows where tables are mapped."""

    def run(values, indices, other, *, interpret):
        local = lambda *inputs: (kernel(*inputs, interpret=interpret),)
        on_each = partial(mesh.kernel_on_each, local, dims=("..",) * 3, out_dims=("..",), batch=0, split=0)
        call = jax.custom_batching.custom_vmap(lambda *inputs: on_each(inputs)[0])

        @call.def_vmap
        def _(size, batched, values, indices, other):
            copies = lambda x, mapped: x if mapped else jnp.broadcast_to(x[None], (size, *x.shape))
            indices, other = copies(indices, batched[1]), copies(other, batched[2])
            if batched[0]:
                values, indices = _one_table(values, indices)
            flat = lambda x: x.reshape(-1, x.shape[-1])
            out = call(values, flat(indices), flat(other))
            return out.reshape(*indices.shape[:2], -1), True

        return call(values, indices, other)

    return run


def _one_table(values, indices):
    """Tables [B, M, V] as one, and indices [B, T, J] into each as numbers of its rows."""
    tables, rows, width = values.shape
    check_rows("value_bag", tables * rows)
    first = rows * jnp.arange(tables, dtype=jnp.int32)[:, None, None]
    return values.reshape(tables * rows, width), jnp.where(indices < rows, indices + first, tables * rows)
