"""DeltaNet (Schlag, Irie and Schmidhuber, ICML 2021, arXiv 2102.11174; Yang et al., NeurIPS 2024, arXiv 2406.06484).

A matrix memory without forgetting: a token replaces what the memory answers at its key by its own value.

    q, k = l2norm(silu(conv(W_q x))), l2norm(silu(conv(W_k x)))      v = silu(conv(W_v x))      beta = sigmoid(W_b x)
    S <- S + beta k (v - S^T k)^T;   o = S^T q / sqrt(K)             y = W_o RMSNorm(o)

    paper    here                  shape
    S        state.memory          [B, H, K, V]
    beta     beta                  [B, T, H]
    conv     conv_*, state.conv_*  [W, channels], [B, W-1, channels]

The sizes and the convolutions are those of the second paper (128 channels a head, as many values as keys). Where we
differ: `negative_eigenvalues` doubles beta so that I - beta k k^T may reflect (Grazzi et al., arXiv 2411.12537).
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from memjax.layers import Linear, RMSNorm, ShortConv, l2_normalize
from memjax.ops import gated_delta_rule
from memjax.ops.gated_delta_rule import Implementation
from memjax.types import MixerConfig, MixerOutput


class DeltaNetState(NamedTuple):
    """Attributes:
    memory: [B, H, K, V] float32.
    conv_query, conv_key, conv_value: the last W-1 inputs of the convolutions, [B, W-1, channels] float32.
    """

    memory: Float[Array, "B H K V"]
    conv_query: Float[Array, "B P HK"]
    conv_key: Float[Array, "B P HK"]
    conv_value: Float[Array, "B P HV"]


@dataclasses.dataclass(frozen=True)
class DeltaNetConfig(MixerConfig):
    """Configuration of `DeltaNet`; the paper's 1.3B model has 16 heads at width 2048."""

    heads: int = 4
    """Heads H."""
    head_dim: int | None = None
    """Key channels of a head, K; None takes the width over `heads`."""
    expand_v: float = 1.0
    """Value channels of a head over its key channels, V / K."""
    conv_width: int = 4
    """Tokens that the short convolutions see, W."""
    negative_eigenvalues: bool = False
    """beta in [0, 2] instead of [0, 1]: the transition may reflect (arXiv 2411.12537)."""
    norm_epsilon: float = 1e-6
    """Epsilon of the output's RMSNorm."""
    implementation: Implementation | None = None
    """Implementation of `memjax.ops.gated_delta_rule`; None chooses by platform."""

    def make(self, width: int, *, rngs: nnx.Rngs) -> "DeltaNet":
        return DeltaNet(self, width, rngs=rngs)


class DeltaNet(nnx.Module):
    """The mixer; see the head of this file for its equations."""

    def __init__(self, config: DeltaNetConfig, width: int, *, rngs: nnx.Rngs):
        self.config = config
        self.heads, self.head_dim = config.heads, config.head_dim or max(1, width // config.heads)
        self.value_dim = max(1, round(self.head_dim * config.expand_v))
        keys, values = self.heads * self.head_dim, self.heads * self.value_dim
        self.query = Linear(width, keys, rngs=rngs)
        self.key = Linear(width, keys, rngs=rngs)
        self.value = Linear(width, values, rngs=rngs)
        self.beta = Linear(width, self.heads, rngs=rngs)
        self.output = Linear(values, width, rngs=rngs)
        self.conv_query = ShortConv(config.conv_width, keys, rngs=rngs)
        self.conv_key = ShortConv(config.conv_width, keys, rngs=rngs)
        self.conv_value = ShortConv(config.conv_width, values, rngs=rngs)
        self.norm = RMSNorm(self.value_dim, epsilon=config.norm_epsilon)

    def init_state(self, batch_size: int) -> DeltaNetState:
        memory = jnp.zeros((batch_size, self.heads, self.head_dim, self.value_dim), jnp.float32)
        convs = (conv.init_state(batch_size) for conv in (self.conv_query, self.conv_key, self.conv_value))
        return DeltaNetState(memory, *convs)

    def flops_per_token(self, time: int) -> float:
        """Multiply-adds counted twice, per token, of the memory itself: read, correct, write, read."""
        return 6.0 * self.heads * self.head_dim * self.value_dim

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
            None,
            beta,
            initial_state=state.memory,
            segment_ids=segment_ids,
            implementation=self.config.implementation,
        )
        y = self.output(self.norm(o).reshape(*x.shape[:2], -1).astype(x.dtype))
        return MixerOutput(y, DeltaNetState(memory, conv_query, conv_key, conv_value), {})
