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
from memjax.ops.matrix_memory import How


def _back_ends():
    from memjax.ops.gated_linear_attention import pallas_gpu, pallas_tpu  # Pallas takes a second to import

    return {"xla": xla, "pallas_tpu": pallas_tpu, "pallas_gpu": pallas_gpu}


_run = matrix_memory.differentiable(_back_ends)


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
        log_decay: natural logarithm of the decay, <= 0, and from -1e30 down a closed gate: None (no gate), [B, T, G] (a
            scalar a head) or [B, T, G, K] (one a key channel).
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
    matrix_memory.check("gated_linear_attention", q, k, v, log_decay, initial_state, segment_ids)
    x = matrix_memory.prepare(q, k, v, log_decay, initial_state, segment_ids)
    refusals = {name: end.refusal(x) for name, end in _back_ends().items() if name != "xla"}
    kernels = implementations.serving("gated_linear_attention", implementation, refusals)
    factor = float(k.shape[-1] ** -0.5 if scale is None else scale)
    if implementation == "reference" or (q.shape[1] == 1 and implementation not in kernels):  # the cheapest of one step
        o, state = reference.gated_linear_attention(*x[:4], factor, x.initial_state, x.docs)
        return o.astype(v.dtype), state
    index = None if x.docs is None else x.docs.index
    return _run(How(implementation, kernels, factor), *x[:5], index)
