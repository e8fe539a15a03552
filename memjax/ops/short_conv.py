"""Short causal depthwise convolution, the local mixing step in front of most linear recurrences.

    y[t] = bias + sum_w kernel[w] * x[t - (W - 1) + w]          kernel[W - 1] weighs the current token

Inputs before the start of a document are those of `initial_state` for the first document of a call and zero for
every later one, so packed documents equal separate ones (gated delta networks reset the convolution with the state).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from memjax.ops import segments


def short_conv(
    x: Float[Array, "B T D"],
    kernel: Float[Array, "W D"],
    bias: Float[Array, "D"] | None = None,
    *,
    initial_state: Float[Array, "B W-1 D"] | None = None,
    segment_ids: Int[Array, "B T"] | None = None,
) -> tuple[Float[Array, "B T D"], Float[Array, "B W-1 D"]]:
    """Causal depthwise convolution along time, computed in float32.

    Args:
        x: [B, T, D].
        kernel: [W, D], one filter a channel; the last row weighs the current token.
        bias: [D] or None.
        initial_state: [B, W-1, D], the inputs before the first token, oldest first; zeros when None.
        segment_ids: [B, T]; 0 is padding, a change of number begins a document.

    Returns:
        y [B, T, D] in the dtype of x, and the last W-1 inputs of the row's last document, [B, W-1, D] float32,
        zero where that document is shorter.
    """
    batch, time, width = x.shape
    taps = kernel.shape[0]
    wide = jnp.promote_types(x.dtype, jnp.float32)
    if initial_state is None:
        initial_state = jnp.zeros((batch, taps - 1, width), wide)
    initial_state = initial_state.astype(wide)
    if segment_ids is None:
        history = jnp.concatenate([initial_state, x.astype(wide)], axis=1)
        same = [True] * taps
        final = history[:, time:]
    else:
        history, same, final = _packed(x.astype(wide), initial_state, segments.documents(segment_ids))
    y = sum(
        (jnp.where(same[w], history[:, w : w + time], 0) * kernel[w].astype(wide)[None, None] for w in range(taps)),
        start=jnp.zeros((1, 1, 1), wide) if bias is None else bias.astype(wide)[None, None],
    )
    return y.astype(x.dtype), final


def _packed(x, initial_state, docs):
    """Inputs with the state put right before the row's first document, and which tap sees which document."""
    time = x.shape[1]
    reach = initial_state.shape[1]
    any_token = docs.valid.any(axis=1)
    begin = jnp.argmax(docs.valid, axis=1)  # 0 when the row is all padding
    end = jnp.where(any_token, time - jnp.argmax(docs.valid[:, ::-1], axis=1), 0)
    history = jnp.pad(jnp.where(docs.valid[..., None], x, 0), ((0, 0), (reach, 0), (0, 0)))
    history = jax.vmap(lambda h, s, at: jax.lax.dynamic_update_slice(h, s, (at, 0)))(history, initial_state, begin)
    index = jnp.pad(docs.index, ((0, 0), (reach, 0)))
    same = [(index[:, w : w + time] == docs.index)[..., None] for w in range(reach + 1)]
    last = docs.index[:, -1:]
    window = jax.vmap(lambda h, at: jax.lax.dynamic_slice_in_dim(h, at, reach))
    final = jnp.where((window(index, end) == last)[..., None], window(history, end), 0)
    return history, same, final
