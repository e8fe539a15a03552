"""Kimi delta attention (Kimi Team, Kimi Linear, 2025, arXiv 2510.26692).

The gated delta rule with a forget gate of its own for every key channel:

    q, k = l2norm(silu(conv(W_q x))), l2norm(silu(conv(W_k x)))      v = silu(conv(W_v x))      beta = sigmoid(W_b x)
    alpha = exp(-exp(A_log) softplus(W_a2 W_a1 x + dt_bias))
    S <- diag(alpha) S;  S <- S + beta k (v - S^T k)^T;  o = S^T q / sqrt(K)
    y = W_o (RMSNorm(o) * sigmoid(W_g2 W_g1 x + b_g))

    paper        here                  shape
    S            state.memory          [B, H, K, V]
    alpha        log_decay             [B, T, H, K]; A_log [H], dt_bias [H K]
    beta         beta                  [B, T, H]
    W_a, W_g     decay_*, gate_*       low rank, by default the channels of a head
    conv         conv_*, state.conv_*  [W, channels], [B, W-1, channels]

Where we differ: `lower_bound` replaces the gate by lower_bound * sigmoid(exp(A_log) (.. + dt_bias)), the bounded form
of the authors' later kernels; our op is exact without a bound, so None is the default. `negative_eigenvalues` doubles
beta (Grazzi et al., arXiv 2411.12537).
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from memjax.layers import Linear, RMSNorm, ShortConv, init_decay_gate, init_step_bias, l2_normalize
from memjax.ops import gated_delta_rule
from memjax.ops.gated_delta_rule import Implementation
from memjax.types import MixerConfig, MixerOutput


class KimiDeltaAttentionState(NamedTuple):
    """Attributes:
    memory: [B, H, K, V] float32.
    conv_query, conv_key, conv_value: the last W-1 inputs of the convolutions, [B, W-1, channels] float32.
    """

    memory: Float[Array, "B H K V"]
    conv_query: Float[Array, "B P HK"]
    conv_key: Float[Array, "B P HK"]
    conv_value: Float[Array, "B P HV"]


@dataclasses.dataclass(frozen=True)
class KimiDeltaAttentionConfig(MixerConfig):
    """Configuration of `KimiDeltaAttention`; the paper's model has 32 heads of 128 channels at width 2304."""

    heads: int = 4
    """Heads H."""
    head_dim: int | None = None
    """Key channels of a head, K; None takes the width over `heads`."""
    expand_v: float = 1.0
    """Value channels of a head over its key channels, V / K."""
    conv_width: int = 4
    """Tokens that the short convolutions see, W."""
    rank: int | None = None
    """Rank of the projections of decay and output gate; None takes `head_dim`."""
    lower_bound: float | None = None
    """Least log-decay of a token, negative (nats); None leaves the gate unbounded."""
    negative_eigenvalues: bool = False
    """beta in [0, 2] instead of [0, 1]: the transition may reflect (arXiv 2411.12537)."""
    norm_epsilon: float = 1e-6
    """Epsilon of the output's RMSNorm."""
    implementation: Implementation | None = None
    """Implementation of `memjax.ops.gated_delta_rule`; None chooses by platform."""

    def make(self, width: int, *, rngs: nnx.Rngs) -> "KimiDeltaAttention":
        return KimiDeltaAttention(self, width, rngs=rngs)


class KimiDeltaAttention(nnx.Module):
    """The mixer; see the head of this file for its equations."""

    def __init__(self, config: KimiDeltaAttentionConfig, width: int, *, rngs: nnx.Rngs):
        if config.lower_bound is not None and config.lower_bound >= 0:
            raise ValueError(f"KimiDeltaAttention: lower_bound={config.lower_bound} must be negative")
        self.config = config
        self.heads, self.head_dim = config.heads, config.head_dim or max(1, width // config.heads)
        self.value_dim = max(1, round(self.head_dim * config.expand_v))
        keys, values, rank = self.heads * self.head_dim, self.heads * self.value_dim, config.rank or self.head_dim
        self.query = Linear(width, keys, rngs=rngs)
        self.key = Linear(width, keys, rngs=rngs)
        self.value = Linear(width, values, rngs=rngs)
        self.beta = Linear(width, self.heads, rngs=rngs)
        self.decay_down, self.decay_up = Linear(width, rank, rngs=rngs), Linear(rank, keys, rngs=rngs)
        self.gate_down, self.gate_up = Linear(width, rank, rngs=rngs), Linear(rank, values, rngs=rngs)
        self.gate_bias = nnx.Param(jnp.zeros((values,), jnp.float32))
        self.output = Linear(values, width, rngs=rngs)
        self.conv_query = ShortConv(config.conv_width, keys, rngs=rngs)
        self.conv_key = ShortConv(config.conv_width, keys, rngs=rngs)
        self.conv_value = ShortConv(config.conv_width, values, rngs=rngs)
        self.norm = RMSNorm(self.value_dim, epsilon=config.norm_epsilon)
        self.A_log = nnx.Param(init_decay_gate(rngs.params(), self.heads, lowest=1.0)[0])
        self.dt_bias = nnx.Param(init_step_bias(rngs.params(), keys))

    def init_state(self, batch_size: int) -> KimiDeltaAttentionState:
        memory = jnp.zeros((batch_size, self.heads, self.head_dim, self.value_dim), jnp.float32)
        convs = (conv.init_state(batch_size) for conv in (self.conv_query, self.conv_key, self.conv_value))
        return KimiDeltaAttentionState(memory, *convs)

    def flops_per_token(self, time: int) -> float:
        """Multiply-adds counted twice, per token, of the memory itself: decay and read, correct, write, read."""
        return 6.0 * self.heads * self.head_dim * self.value_dim

    def log_decay(self, x: Float[Array, "B T D"]) -> Float[Array, "B T H K"]:
        """The logarithm of alpha, <= 0, in float32."""
        raw = self.decay_up(self.decay_down(x)).astype(jnp.float32) + self.dt_bias[...][None, None]
        raw = raw.reshape(*x.shape[:2], self.heads, self.head_dim)
        rate = jnp.exp(self.A_log[...])[None, None, :, None]
        bound = self.config.lower_bound
        return -rate * jax.nn.softplus(raw) if bound is None else bound * jax.nn.sigmoid(rate * raw)

    def __call__(self, x, state=None, *, segment_ids=None, key=None) -> MixerOutput:
        state = self.init_state(x.shape[0]) if state is None else state
        q, conv_query = self.conv_query(self.query(x), state.conv_query, segment_ids)
        k, conv_key = self.conv_key(self.key(x), state.conv_key, segment_ids)
        v, conv_value = self.conv_value(self.value(x), state.conv_value, segment_ids)
        heads = lambda z: z.reshape(*z.shape[:2], self.heads, -1)
        beta = jax.nn.sigmoid(self.beta(x).astype(jnp.float32)) * (2 if self.config.negative_eigenvalues else 1)
        o, memory = gated_delta_rule(
            l2_normalize(heads(q)),
            l2_normalize(heads(k)),
            heads(v),
            self.log_decay(x),
            beta,
            initial_state=state.memory,
            segment_ids=segment_ids,
            implementation=self.config.implementation,
        )
        gate = self.gate_up(self.gate_down(x)).astype(jnp.float32) + self.gate_bias[...][None, None]
        gated = self.norm(o) * jax.nn.sigmoid(heads(gate))
        y = self.output(gated.reshape(*x.shape[:2], -1).astype(x.dtype))
        return MixerOutput(y, KimiDeltaAttentionState(memory, conv_query, conv_key, conv_value), {})
