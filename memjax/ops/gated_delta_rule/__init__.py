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

_IMPLEMENTATIONS = {"reference": reference.gated_delta_rule, "xla": xla.gated_delta_rule}


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
        log_decay: natural logarithm of the decay, finite and <= 0: None (no gate), [B, T, G] (a scalar a head) or
            [B, T, G, K] (one a key channel).
        beta: writing strength [B, T, G].
        scale: factor on q, K ** -0.5 when None.
        initial_state: [B, G, K, V] before the first token, zeros when None.
        segment_ids: [B, T]; 0 is padding (state untouched, output finite and otherwise undefined), a change of number
            begins a document with an empty state. The first document continues `initial_state`.
        implementation: "reference" (one step a token), "xla" (chunks), None chooses.

    Returns:
        o [B, T, G, V] in the dtype of v, and the final state [B, G, K, V] in float32 (float64 for float64 inputs).

    Raises:
        ValueError: shapes that do not fit together.
        NotImplementedError: a named implementation that cannot serve.
    """
    matrix_memory.check("gated_delta_rule", q, k, v, log_decay, initial_state, segment_ids, beta=(beta, v.shape[:3]))
    run = implementations.choose("gated_delta_rule", implementation, _IMPLEMENTATIONS)
    x = matrix_memory.prepare(q, k, v, log_decay, initial_state, segment_ids)
    scale = k.shape[-1] ** -0.5 if scale is None else scale
    o, state = run(x.q, x.k, x.v, x.log_decay, beta.astype(x.q.dtype), scale, x.initial_state, x.docs)
    return o.astype(v.dtype), state
