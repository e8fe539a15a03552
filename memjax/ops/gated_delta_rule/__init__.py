"""Gated delta rule: a matrix memory that decays, corrects itself and is read, once a token.

    S <- exp(log_decay) S ;  u = beta (v - S^T k) ;  S <- S + k u^T ;  o = S^T (q * scale)

Sources: Yang et al., Gated Delta Networks (arXiv 2412.06464), equation 10 and section 3.3 for the chunked form; Yang
et al. (arXiv 2406.06484) for the delta rule without gate; Kimi Linear (arXiv 2510.26692) for the gate a channel.
"""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from memjax.ops import segments
from memjax.ops.gated_delta_rule import reference, xla

Implementation = Literal["reference", "xla", "pallas_tpu", "pallas_gpu"]
_IMPLEMENTATIONS = {"reference": reference.gated_delta_rule, "xla": xla.gated_delta_rule}
_ABSENT = ("pallas_tpu", "pallas_gpu")


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
    _check(q, k, v, log_decay, beta, initial_state, segment_ids)
    if implementation in _ABSENT:
        raise NotImplementedError(f"gated_delta_rule has no {implementation!r} kernel yet; use 'xla' or None")
    if implementation is not None and implementation not in _IMPLEMENTATIONS:
        raise ValueError(f"unknown implementation {implementation!r}; one of {', '.join(_IMPLEMENTATIONS)}")
    wide = jnp.promote_types(jnp.result_type(q, k, v), jnp.float32)
    batch, _, groups, values = v.shape
    if initial_state is None:
        initial_state = jnp.zeros((batch, groups, k.shape[-1], values), wide)
    docs = None
    log_decay = None if log_decay is None else log_decay.astype(wide)
    beta = beta.astype(wide)
    if segment_ids is not None:
        docs = segments.documents(segment_ids)
        beta = jnp.where(docs.valid[..., None], beta, 0)
        if log_decay is not None:
            log_decay = jnp.where(docs.valid.reshape(*docs.valid.shape, *[1] * (log_decay.ndim - 2)), log_decay, 0)
    run = _IMPLEMENTATIONS[implementation or "xla"]
    o, state = run(
        q.astype(wide),
        k.astype(wide),
        v.astype(wide),
        log_decay,
        beta,
        k.shape[-1] ** -0.5 if scale is None else scale,
        initial_state.astype(wide),
        docs,
    )
    return o.astype(v.dtype), state


def _check(q, k, v, log_decay, beta, initial_state, segment_ids):
    batch, time, heads, width = q.shape
    groups = v.shape[2]
    if time < 1:
        raise ValueError("gated_delta_rule: the sequence is empty (T = 0)")
    if groups % heads:
        raise ValueError(f"gated_delta_rule: {groups} value heads are not a multiple of {heads} key heads")
    expected = {
        "k": (k, [(batch, time, heads, width)]),
        "v": (v, [(batch, time, groups, v.shape[-1])]),
        "beta": (beta, [(batch, time, groups)]),
        "log_decay": (log_decay, [(batch, time, groups), (batch, time, groups, width)]),
        "initial_state": (initial_state, [(batch, groups, width, v.shape[-1])]),
        "segment_ids": (segment_ids, [(batch, time)]),
    }
    for name, (array, shapes) in expected.items():
        if array is not None and array.shape not in shapes:
            wanted = " or ".join(map(str, shapes))
            raise ValueError(f"gated_delta_rule: {name} has shape {array.shape}, expected {wanted}")
