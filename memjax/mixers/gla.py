"""Gated linear attention (Yang, Wang, Shen, Panda and Kim, ICML 2024, arXiv 2312.06635).

Linear attention with a forget gate of its own for every key channel, computed from the token through a low rank:

    q, k, v = W_q x, W_k x, W_v x          alpha = sigmoid(W_2 W_1 x + b) ** (1 / tau)
    S <- diag(alpha) S + k v^T;   o = S^T q / sqrt(K)          y = W_o (RMSNorm(o) * silu(W_r x + b_r))

    paper    here                          shape
    S        state.memory                  [B, H, K, V]
    alpha    log_decay                     [B, T, H, K]
    W_1, W_2 decay_down, decay_up          rank 16
    tau      gate_normalizer               16
    W_r      gate                          [D, H V]

Where we differ: the norm of a head is an RMSNorm in place of a LayerNorm, and the output gate has no bias, as in the
authors' later code. The chunked form is exact at any strength of the gate, so nothing bounds alpha from below.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from memjax.layers import Linear, RMSNorm
from memjax.ops import gated_linear_attention
from memjax.ops.gated_linear_attention import Implementation
from memjax.types import MixerConfig, MixerOutput


class GLAState(NamedTuple):
    """Attributes:
    memory: [B, H, K, V] float32.
    """

    memory: Float[Array, "B H K V"]


@dataclasses.dataclass(frozen=True)
class GLAConfig(MixerConfig):
    """Configuration of `GLA`; the defaults are the paper's."""

    heads: int = 4
    """Heads H."""
    expand_k: float = 0.5
    """Key channels of all heads over the width, d_k / d."""
    expand_v: float = 1.0
    """Value channels of all heads over the width, d_v / d."""
    gate_rank: int = 16
    """Rank of the gate's projection."""
    gate_normalizer: float = 16.0
    """tau: the gate's log-sigmoid is divided by it, which begins with long memories."""
    norm_epsilon: float = 1e-6
    """Epsilon of the output's RMSNorm."""
    implementation: Implementation | None = None
    """Implementation of `memjax.ops.gated_linear_attention`; None chooses by platform."""

    def make(self, width: int, *, rngs: nnx.Rngs) -> "GLA":
        return GLA(self, width, rngs=rngs)


class GLA(nnx.Module):
    """The mixer; see the head of this file for its equations."""

    def __init__(self, config: GLAConfig, width: int, *, rngs: nnx.Rngs):
        self.config = config
        self.heads = config.heads
        self.head_dim, self.value_dim = (
            max(1, round(width * expand / config.heads)) for expand in (config.expand_k, config.expand_v)
        )
        keys, values = self.heads * self.head_dim, self.heads * self.value_dim
        self.query = Linear(width, keys, rngs=rngs)
        self.key = Linear(width, keys, rngs=rngs)
        self.value = Linear(width, values, rngs=rngs)
        self.gate = Linear(width, values, rngs=rngs)
        self.decay_down = Linear(width, config.gate_rank, rngs=rngs)
        self.decay_up = Linear(config.gate_rank, keys, rngs=rngs)
        self.decay_bias = nnx.Param(jnp.zeros((keys,), jnp.float32))
        self.output = Linear(values, width, rngs=rngs)
        self.norm = RMSNorm(self.value_dim, epsilon=config.norm_epsilon)

    def init_state(self, batch_size: int) -> GLAState:
        return GLAState(jnp.zeros((batch_size, self.heads, self.head_dim, self.value_dim), jnp.float32))

    def flops_per_token(self, time: int) -> float:
        """Multiply-adds counted twice, per token, of the memory itself: decay and write, read."""
        return 5.0 * self.heads * self.head_dim * self.value_dim

    def __call__(self, x, state=None, *, segment_ids=None, key=None) -> MixerOutput:
        heads = lambda z: z.reshape(*z.shape[:2], self.heads, -1)
        raw = self.decay_up(self.decay_down(x)).astype(jnp.float32) + self.decay_bias[...][None, None]
        o, memory = gated_linear_attention(
            heads(self.query(x)),
            heads(self.key(x)),
            heads(self.value(x)),
            heads(jax.nn.log_sigmoid(raw) / self.config.gate_normalizer),
            initial_state=None if state is None else state.memory,
            segment_ids=segment_ids,
            implementation=self.config.implementation,
        )
        gated = self.norm(o) * jax.nn.silu(heads(self.gate(x)))
        y = self.output(gated.reshape(*x.shape[:2], -1).astype(x.dtype))
        return MixerOutput(y, GLAState(memory), {})
