"""HiPPO-LegS memory cell, the gated HiPPO-RNN (Gu, Dao, Ermon, Rudra and Re, arXiv 2008.07669).

A recurrent network that keeps the whole history of a few features of its own as Legendre coefficients (LegS, see
`memjax.ops.hippo`), and whose state is gated by what it reads off them:

    f_t = W_f [x_t, h_{t-1}]
    m_t = (I - A/2k)^-1 ((I + A/2k) m_{t-1} + (B/k) f_t)         bilinear; k counts the document's tokens from 1
    h_t = (1 - g_t) h_{t-1} + g_t tanh(W_h [x_t, m_t] + b_h)     g_t = sigmoid(W_g [x_t, m_t] + b_g)
    y_t = W_o h_t

    paper    here                 shape
    f        feature              [B, F]      F = features, 1 in the paper
    c        state.memory         [B, F, N]   N = memory_order
    h        state.hidden         [B, H]
    k        state.count + 1      [B]

A step of LegS costs O(N). The feature depends on the state before it, so time is a `lax.scan`: a token is a step, on
every device. Its gradient keeps m and h of every token and computes the rest anew.

Where we differ: the authors' cell sets m_1 to (f_1, 0, ..., 0) and takes A/(k-1) afterwards; here sample k is taken
with A/k as in the paper's recurrence. It also stops the clock at a largest length; here it counts on.
"""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from memjax.layers import Linear
from memjax.ops import hippo, segments
from memjax.types import MixerConfig, MixerOutput


class HippoLegSState(NamedTuple):
    """Attributes:
    memory: coefficients of every feature's history, [B, F, N] float32.
    hidden: [B, H] float32.
    count: [B] int32, tokens of the document so far.
    """

    memory: Float[Array, "B F N"]
    hidden: Float[Array, "B H"]
    count: Int[Array, "B"]


@dataclasses.dataclass(frozen=True)
class HippoLegSConfig(MixerConfig):
    """Configuration of `HippoLegS`."""

    hidden: int | None = None
    """Channels of the gated state, H; None takes the width."""
    memory_order: int | None = None
    """Coefficients of a history, N; None takes as many as `hidden`, as the paper does."""
    features: int = 1
    """Features whose history is kept, F."""
    method: Literal["bilinear", "backward_euler"] = "bilinear"
    """How the continuous equation becomes a step (`memjax.ops.hippo.step`)."""

    def make(self, width: int, *, rngs: nnx.Rngs) -> "HippoLegS":
        return HippoLegS(self, width, rngs=rngs)


class HippoLegS(nnx.Module):
    """The mixer; see the head of this file for its equations. The matrices on [x, h] and [x, m] are kept in two."""

    def __init__(self, config: HippoLegSConfig, width: int, *, rngs: nnx.Rngs):
        self.config = config
        self.hidden = width if config.hidden is None else config.hidden
        self.order = self.hidden if config.memory_order is None else config.memory_order
        for name, size in (("hidden", self.hidden), ("memory_order", self.order), ("features", config.features)):
            if size < 1:
                raise ValueError(f"HippoLegS: {name}={size} must be at least 1")
        kept = config.features * self.order
        split = lambda a, b, out: [Linear(n, out, rngs=rngs, std=(a + b) ** -0.5) for n in (a, b)]
        self.feature_input, self.feature_hidden = split(width, self.hidden, config.features)
        self.candidate_input, self.candidate_memory = split(width, kept, self.hidden)
        self.gate_input, self.gate_memory = split(width, kept, self.hidden)
        self.candidate_bias, self.gate_bias = (nnx.Param(jnp.zeros((self.hidden,), jnp.float32)) for _ in range(2))
        self.output = Linear(self.hidden, width, rngs=rngs)

    def init_state(self, batch_size: int) -> HippoLegSState:
        zeros = lambda *shape: jnp.zeros((batch_size, *shape), jnp.float32)
        memory = zeros(self.config.features, self.order)
        return HippoLegSState(memory, zeros(self.hidden), jnp.zeros((batch_size,), jnp.int32))

    def flops_per_token(self, time: int) -> float:
        """Multiply-adds counted twice, per token, of the memory itself: two running sums and the solution; gating."""
        return 12.0 * self.config.features * self.order + 4.0 * self.hidden

    def __call__(self, x, state=None, *, segment_ids=None, key=None) -> MixerOutput:
        state = self.init_state(x.shape[0]) if state is None else state
        wide = lambda z, bias: z.astype(jnp.float32) + bias[...][None, None]
        reads = (
            self.feature_input(x).astype(jnp.float32),
            wide(self.candidate_input(x), self.candidate_bias),
            wide(self.gate_input(x), self.gate_bias),
        )
        tokens = jax.tree.map(lambda z: jnp.moveaxis(z, 1, 0), (reads, _documents(segment_ids)))
        step = lambda state, token: self._step(state, token, x.dtype)
        # rebuilt in the backward pass, a step keeps the state it began with and nothing else
        state, h = jax.lax.scan(jax.checkpoint(step, prevent_cse=False), state, tokens)
        return MixerOutput(self.output(jnp.moveaxis(h, 0, 1).astype(x.dtype)), state, {})

    def _step(self, state, token, dtype):
        (feature, candidate, gate), documents = token
        before = state
        if documents is not None:
            first, valid = documents
            state = jax.tree.map(lambda z: jnp.where(_against(first, z), 0, z), state)
        project = lambda layer, z: layer(z.astype(dtype)).astype(jnp.float32)
        feature = feature + project(self.feature_hidden, state.hidden)
        count = state.count + 1
        memory = hippo.step(state.memory, feature, count[:, None], self.config.method)
        flat = memory.reshape(memory.shape[0], -1)
        candidate = jnp.tanh(candidate + project(self.candidate_memory, flat))
        gate = jax.nn.sigmoid(gate + project(self.gate_memory, flat))
        hidden = (1 - gate) * state.hidden + gate * candidate
        after = HippoLegSState(memory, hidden, count)
        if documents is not None:
            after = jax.tree.map(lambda new, old: jnp.where(_against(valid, new), new, old), after, before)
        return after, after.hidden


def _documents(segment_ids):
    """Whether a token begins with an empty state, and whether it is no padding, [B, T] each; None without segments."""
    if segment_ids is None:
        return None
    docs = segments.documents(segment_ids)
    return segments.begins(docs), docs.valid


def _against(mask, z):
    """The mask [B] with as many axes as z."""
    return mask.reshape(-1, *[1] * (z.ndim - 1))
