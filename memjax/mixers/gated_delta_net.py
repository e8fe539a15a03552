"""Gated DeltaNet (Yang, Kautz and Hatamizadeh, ICLR 2025, arXiv 2412.06464).

Each head keeps a K x V matrix that maps keys to values. A token lets it fade, replaces what the memory answers at its
key by its own value, and reads it at its query:

    q, k = l2norm(silu(conv(W_q x))), l2norm(silu(conv(W_k x)))      v = silu(conv(W_v x))
    alpha = exp(-exp(A_log) softplus(W_a x + dt_bias))               beta = sigmoid(W_b x)
    S <- alpha S;  S <- S + beta k (v - S^T k)^T;  o = S^T q / sqrt(K)
    y = W_o (RMSNorm(o) * silu(W_g x))

    paper    here                shape
    S        state.memory        [B, G, K, V]
    d_k, d_v head_dim, value_dim K, V
    alpha    decay, log_decay    [B, T, G]
    beta     beta                [B, T, G]
    conv     conv_*, state.conv_*  [W, channels], [B, W-1, channels]

Where we differ: value heads may outnumber key heads (as in Qwen3-Next), and `negative_eigenvalues` doubles beta so
that I - beta k k^T may reflect (Grazzi et al., arXiv 2411.12537). The L2 norm has its epsilon inside the root.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from memjax.layers import Linear, RMSNorm, ShortConv, gate_log_decay, init_decay_gate, l2_normalize
from memjax.ops import gated_delta_rule
from memjax.ops.gated_delta_rule import Implementation
from memjax.types import MixerConfig, MixerOutput


class GatedDeltaNetState(NamedTuple):
    """Attributes:
    memory: [B, G, K, V] float32.
    conv_query, conv_key, conv_value: the last W-1 inputs of the convolutions, [B, W-1, channels] float32.
    """

    memory: Float[Array, "B G K V"]
    conv_query: Float[Array, "B W-1 QK"]
    conv_key: Float[Array, "B W-1 QK"]
    conv_value: Float[Array, "B W-1 GV"]


@dataclasses.dataclass(frozen=True)
class GatedDeltaNetConfig(MixerConfig):
    """Configuration of `GatedDeltaNet`; the defaults are the paper's proportions."""

    heads: int = 4
    """Key/query heads H."""
    value_heads: int | None = None
    """Value heads G, a multiple of `heads`; None takes as many."""
    head_dim: int | None = None
    """Key channels of a head, d_k; None takes 3/4 of the width over `heads`."""
    expand_v: float = 2.0
    """Value channels of a head over its key channels, d_v / d_k."""
    conv_width: int = 4
    """Tokens that the short convolutions see, W."""
    negative_eigenvalues: bool = False
    """beta in [0, 2] instead of [0, 1]: the transition may reflect (arXiv 2411.12537)."""
    norm_epsilon: float = 1e-6
    """Epsilon of the output's RMSNorm."""
    implementation: Implementation | None = None
    """Implementation of `memjax.ops.gated_delta_rule`; None chooses by platform."""

    def make(self, width: int, *, rngs: nnx.Rngs) -> "GatedDeltaNet":
        return GatedDeltaNet(self, width, rngs=rngs)


class GatedDeltaNet(nnx.Module):
    """The mixer; see the head of this file for its equations."""

    def __init__(self, config: GatedDeltaNetConfig, width: int, *, rngs: nnx.Rngs):
        self.config = config
        self.key_heads = config.heads
        self.value_heads = config.value_heads or config.heads
        self.head_dim = config.head_dim or max(1, 3 * width // (4 * config.heads))
        self.value_dim = max(1, round(self.head_dim * config.expand_v))
        if self.value_heads % self.key_heads:
            raise ValueError(f"GatedDeltaNet: value_heads={self.value_heads} is no multiple of heads={config.heads}")
        keys, values = self.key_heads * self.head_dim, self.value_heads * self.value_dim
        self.query = Linear(width, keys, rngs=rngs)
        self.key = Linear(width, keys, rngs=rngs)
        self.value = Linear(width, values, rngs=rngs)
        self.gate = Linear(width, values, rngs=rngs)
        self.decay = Linear(width, self.value_heads, rngs=rngs)
        self.beta = Linear(width, self.value_heads, rngs=rngs)
        self.output = Linear(values, width, rngs=rngs)
        self.conv_query = ShortConv(config.conv_width, keys, rngs=rngs)
        self.conv_key = ShortConv(config.conv_width, keys, rngs=rngs)
        self.conv_value = ShortConv(config.conv_width, values, rngs=rngs)
        self.norm = RMSNorm(self.value_dim, epsilon=config.norm_epsilon)
        self.A_log, self.dt_bias = (nnx.Param(x) for x in init_decay_gate(rngs.params(), self.value_heads))

    def init_state(self, batch_size: int) -> GatedDeltaNetState:
        reach = self.config.conv_width - 1
        keys, values = self.key_heads * self.head_dim, self.value_heads * self.value_dim
        zeros = lambda *shape: jnp.zeros((batch_size, *shape), jnp.float32)
        memory = zeros(self.value_heads, self.head_dim, self.value_dim)
        return GatedDeltaNetState(memory, zeros(reach, keys), zeros(reach, keys), zeros(reach, values))

    def flops_per_token(self, time: int) -> float:
        """Multiply-adds counted twice, per token, of the memory itself: decay and read, correct, write, read."""
        return 6.0 * self.value_heads * self.head_dim * self.value_dim

    def __call__(self, x, state=None, *, segment_ids=None, key=None) -> MixerOutput:
        state = self.init_state(x.shape[0]) if state is None else state
        q, conv_query = self.conv_query(self.query(x), state.conv_query, segment_ids)
        k, conv_key = self.conv_key(self.key(x), state.conv_key, segment_ids)
        v, conv_value = self.conv_value(self.value(x), state.conv_value, segment_ids)
        heads = lambda z, n: z.reshape(*z.shape[:2], n, -1)
        log_decay = gate_log_decay(self.decay(x), self.A_log[...], self.dt_bias[...])
        beta = jax.nn.sigmoid(self.beta(x).astype(jnp.float32)) * (2 if self.config.negative_eigenvalues else 1)
        o, memory = gated_delta_rule(
            l2_normalize(heads(q, self.key_heads)),
            l2_normalize(heads(k, self.key_heads)),
            heads(v, self.value_heads),
            log_decay,
            beta,
            initial_state=state.memory,
            segment_ids=segment_ids,
            implementation=self.config.implementation,
        )
        gated = self.norm(o) * jax.nn.silu(heads(self.gate(x), self.value_heads))
        y = self.output(gated.reshape(*x.shape[:2], -1).astype(x.dtype))
        return MixerOutput(y, GatedDeltaNetState(memory, conv_query, conv_key, conv_value), {})
