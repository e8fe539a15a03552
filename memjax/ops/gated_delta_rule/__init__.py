"""Gated delta rule: a matrix memory that decays, corrects itself and is read, once a token.

    S <- exp(log_decay) S ;  u = beta (v - S^T k) ;  S <- S + k u^T ;  o = S^T (q * scale)

Sources: Yang et al., Gated Delta Networks (arXiv 2412.06464), equation 10 and section 3.3 for the chunked form; Yang
et al. (arXiv 2406.06484) for the delta rule without gate; Kimi Linear (arXiv 2510.26692) for the gate a channel.
"""

from jaxtyping import Array, Float, Int

from memjax.ops import implementations, matrix_memory
from memjax.ops.gated_delta_rule import reference, xla
from memjax.ops.gated_delta_rule.xla import over_stream as over_stream
from memjax.ops.implementations import Implementation as Implementation
from memjax.ops.matrix_memory import How


def _back_ends():
    from memjax.ops.gated_delta_rule import pallas_gpu, pallas_tpu  # Pallas takes a second to import

    return {"xla": xla, "pallas_tpu": pallas_tpu, "pallas_gpu": pallas_gpu}


_run = matrix_memory.differentiable(_back_ends)


def gated_delta_rule(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B T H K"],
    v: Float[Array, "B T G V"],
    log_decay: Float[Array, "B T G"] | Float[Array, "B T G K"] | None,
    beta: Float[Array, "B T G"],
    *,
    scale: float | None = None,
    initial_state: Float[Array, "B G K V"] | None = None,
    segment_ids: Int[Array, "B T"] | None = None,
    implementation: Implementation | None = None,
) -> tuple[Float[Array, "B T G V"], Float[Array, "B G K V"]]:
    """Runs the gated delta rule over a sequence.

    Args:
        q: queries [B, T, H, K].
        k: keys [B, T, H, K]; the rule is stable for |k| <= 1 and beta in [0, 2].
        v: values [B, T, G, V], G a multiple of H; value head g uses key head g // (G // H).
        log_decay: natural logarithm of the decay, <= 0, and from -1e30 down a closed gate: None (no gate), [B, T, G] (a
            scalar a head) or [B, T, G, K] (one a key channel).
        beta: writing strength [B, T, G].
        scale: factor on q, K ** -0.5 when None.
        initial_state: [B, G, K, V] before the first token, zeros when None.
        segment_ids: [B, T]; 0 is padding (state untouched, output finite and otherwise undefined), a change of number
            begins a document with an empty state. The first document continues `initial_state`.
        implementation: "reference" (one step a token), "xla" (chunks), "pallas_tpu" or "pallas_gpu" (a kernel,
            interpreted on a CPU; that for GPUs keeps 16 of the 24 bits of float32 inputs), None chooses by the
            platform that the program is lowered for.

    Returns:
        o [B, T, G, V] in the dtype of v, and the final state [B, G, K, V] in float32 (float64 for float64 inputs).

    Raises:
        ValueError: shapes that do not fit together, or an empty batch or sequence.
        NotImplementedError: a named implementation that cannot serve.
    """
    matrix_memory.check("gated_delta_rule", q, k, v, log_decay, initial_state, segment_ids, beta=(beta, v.shape[:3]))
    x = matrix_memory.prepare(q, k, v, log_decay, initial_state, segment_ids)
    refusals = {name: end.refusal(x) for name, end in _back_ends().items() if name != "xla"}
    kernels = implementations.serving("gated_delta_rule", implementation, refusals)
    factor = float(k.shape[-1] ** -0.5 if scale is None else scale)
    inputs = (*x[:4], beta.astype(x.initial_state.dtype))
    if implementation == "reference" or (q.shape[1] == 1 and implementation not in kernels):  # the cheapest of one step
        o, state = reference.gated_delta_rule(*inputs, factor, x.initial_state, x.docs)
        return o.astype(v.dtype), state
    index = None if x.docs is None else x.docs.index
    return _run(How(implementation, kernels, factor), *inputs, x.initial_state, index)
