"""Linear scan: a state a channel that decays and is written to, once a token.

    h_t = decay_t h_{t-1} + x_t

The recurrence under S4D (arXiv 2206.11893), S5 (2208.04933), LRU (2303.06349), Griffin's RG-LRU (2402.19427) and minGRU
(2410.01201). Martin and Cundy (1709.04057) give the parallel form and the backward as the same scan reversed.
"""

import jax.numpy as jnp
from jaxtyping import Array, Inexact, Int

from memjax.ops import implementations, mesh
from memjax.ops.implementations import Implementation as Implementation
from memjax.ops.linear_scan import marks as marking
from memjax.ops.linear_scan import reference, scan


def linear_scan(
    decay: Inexact[Array, "B T D"] | Inexact[Array, " D"],
    x: Inexact[Array, "B T D"],
    *,
    initial_state: Inexact[Array, "B D"] | None = None,
    segment_ids: Int[Array, "B T"] | None = None,
    reverse: bool = False,
    implementation: Implementation | None = None,
) -> tuple[Inexact[Array, "B T D"], Inexact[Array, "B D"]]:
    """Runs h_t = decay_t h_{t-1} + x_t over a sequence, every channel on its own.

    Args:
        decay: [B, T, D], or [D] for one that is the same at every token; float32 or complex64 (float64, complex128),
            of modulus <= 1. A larger one grows the state, and its product over T tokens must not overflow.
        x: what is written [B, T, D], real or complex.
        initial_state: [B, D] before the first token, zeros when None.
        segment_ids: [B, T]; 0 is padding (state untouched), a change of number begins a document with an empty state.
            The first document that the scan meets continues `initial_state`.
        reverse: h_t = decay_t h_{t+1} + x_t: `initial_state` enters at the end and the last state is h at t = 0.
        implementation: "reference" (one step a token), "xla" (blocks or an associative scan), "pallas_tpu" or
            "pallas_gpu" (one pass over device memory, forward and backward; interpreted on a CPU). None takes the
            kernel of the platform that the program is lowered for, where it serves and the sequence is not short.

    Returns:
        h [B, T, D] in the dtype of x (complex as soon as one input is), and the last state [B, D] in float32 or
        complex64 (float64, complex128 for such inputs).

    Raises:
        ValueError: shapes that do not fit together, or a decay of less than 32 bits.
        NotImplementedError: a named implementation that cannot serve.
    """
    _check(decay, x, initial_state, segment_ids)
    wide = jnp.promote_types(decay.dtype, x.dtype)
    if initial_state is None:
        initial_state = jnp.zeros((x.shape[0], x.shape[2]), wide)
    wide = jnp.promote_types(wide, initial_state.dtype)
    decay, state = decay.astype(wide), initial_state.astype(wide)
    decay = decay[None, None] if decay.ndim == 1 else decay
    if jnp.issubdtype(wide, jnp.complexfloating):
        x = x.astype(wide)
    kernels = scan.serving(decay, x, implementation)
    marks = None if segment_ids is None else marking.of_segments(segment_ids, reverse)
    # decoding: the definition is the cheapest form
    if implementation == "reference" or (x.shape[1] == 1 and implementation in (None, "xla")):
        return _by_definition(decay, x, state, marks, reverse)
    inputs = (decay, x, state)  # alike, so that all cotangents have the type of what they belong to
    return scan.scan(*mesh.varying_as(inputs, *inputs), marks, reverse, implementation, kernels)


def _by_definition(decay, x, state, marks, reverse):
    decay, wide = marking.apply(decay, x.astype(decay.dtype), marks)
    h, last = reference.linear_scan(decay, wide, state, None if marks is None else marks == marking.FIRST, reverse)
    return h.astype(x.dtype), last


def _check(decay, x, initial_state, segment_ids):
    batch, time, width = x.shape
    if time < 1:
        raise ValueError("linear_scan: the sequence is empty (T = 0)")
    if jnp.finfo(decay.dtype).bits < 32:
        raise ValueError(f"linear_scan: decay is {decay.dtype}, too coarse near 1; use float32 or complex64")
    expected = {
        "decay": (decay, [(batch, time, width), (width,)]),
        "initial_state": (initial_state, [(batch, width)]),
        "segment_ids": (segment_ids, [(batch, time)]),
    }
    implementations.check_shapes("linear_scan", expected)
