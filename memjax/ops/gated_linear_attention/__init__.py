"""Gated linear attention: a matrix memory that decays, is written to and is read, once a token.

    S <- exp(log_decay) S + k v^T ;  o = S^T (q * scale)

The recurrence under linear attention (Katharopoulos et al., arXiv 2006.16236), RetNet (arXiv 2307.08621), Mamba2 (Dao
and Gu, arXiv 2405.21060, where q, k, v are C, B and dt x) and GLA (Yang et al., arXiv 2312.06635, the gate a channel).
"""

from jaxtyping import Array, Float, Int

from memjax.ops import implementations, matrix_memory
from memjax.ops.gated_linear_attention import reference, xla
from memjax.ops.gated_linear_attention.xla import over_stream as over_stream
from memjax.ops.implementations import Implementation as Implementation

_IMPLEMENTATIONS = {"reference": reference.gated_linear_attention, "xla": xla.gated_linear_attention}


def gated_linear_attention(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B T H K"],
    v: Float[Array, "B T G V"],
    log_decay: Float[Array, "B T G"] | Float[Array, "B T G K"] | None = None,
    *,
    scale: float | None = None,
    initial_state: Float[Array, "B G K V"] | None = None,
    segment_ids: Int[Array, "B T"] | None = None,
    implementation: Implementation | None = None,
) -> tuple[Float[Array, "B T G V"], Float[Array, "B G K V"]]:
    """Runs gated linear attention over a sequence, exact at any strength of the gate.

    Args:
        q: queries [B, T, H, K].
        k: keys [B, T, H, K].
        v: values [B, T, G, V], G a multiple of H; value head g uses key head g // (G // H).
        log_decay: natural logarithm of the decay, finite and <= 0: None (no gate), [B, T, G] (a scalar a head) or
            [B, T, G, K] (one a key channel).
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
    matrix_memory.check("gated_linear_attention", q, k, v, log_decay, initial_state, segment_ids)
    run = implementations.choose("gated_linear_attention", implementation, _IMPLEMENTATIONS)
    x = matrix_memory.prepare(q, k, v, log_decay, initial_state, segment_ids)
    scale = k.shape[-1] ** -0.5 if scale is None else scale
    o, state = run(x.q, x.k, x.v, x.log_decay, scale, x.initial_state, x.docs)
    return o.astype(v.dtype), state
