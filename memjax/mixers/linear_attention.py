"""Linear attention (Katharopoulos, Vyas, Pappas and Fleuret, ICML 2020, arXiv 2006.16236).

The softmax of attention is replaced by a product of positive features, so that all past keys and values fold into one
matrix and one vector a head:

    q, k, v = W_q x, W_k x, W_v x          phi(z) = elu(z) + 1
    S <- S + phi(k) v^T;   z <- z + phi(k)          y = W_o (S^T phi(q) / (z . phi(q)))

    paper    here                        shape
    S        state.memory[..., :V]       [B, H, K, V]
    Z        state.memory[..., V]        [B, H, K]
    phi      features                    elu + 1, or none

Where we differ: the normaliser is one more value channel that always writes 1; `normalize=False` takes an RMSNorm of
each head in its place (Qin et al., TransNormer, arXiv 2210.10340), which does not divide by a small sum.
"""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from memjax.layers import Linear, RMSNorm
from memjax.ops import gated_linear_attention
from memjax.ops.gated_linear_attention import Implementation
from memjax.types import MixerConfig, MixerOutput

_EPSILON = 1e-6  # added to the normaliser: the paper's code, and finite outputs at padding


class LinearAttentionState(NamedTuple):
    """Attributes:
    memory: [B, H, K, V + 1] float32, the last column the sum of features; [B, H, K, V] without normaliser.
    """

    memory: Float[Array, "B H K V"]


@dataclasses.dataclass(frozen=True)
class LinearAttentionConfig(MixerConfig):
    """Configuration of `LinearAttention`."""

    heads: int = 4
    """Heads H."""
    head_dim: int | None = None
    """Key channels of a head, K; None takes the width over `heads`."""
    expand_v: float = 1.0
    """Value channels of a head over its key channels, V / K."""
    features: Literal["elu", "none"] = "elu"
    """phi: elu + 1, or the vector itself (then `normalize` must be False: the sum may vanish)."""
    normalize: bool = True
    """Divide by the sum of the weights; False: an RMSNorm of each head in its place."""
    implementation: Implementation | None = None
    """Implementation of `memjax.ops.gated_linear_attention`; None chooses by platform."""

    def make(self, width: int, *, rngs: nnx.Rngs) -> "LinearAttention":
        return LinearAttention(self, width, rngs=rngs)


class LinearAttention(nnx.Module):
    """The mixer; see the head of this file for its equations."""

    def __init__(self, config: LinearAttentionConfig, width: int, *, rngs: nnx.Rngs):
        if config.normalize and config.features == "none":
            raise ValueError("LinearAttention: features='none' can sum to zero; set normalize=False")
        self.config = config
        self.heads, self.head_dim = config.heads, config.head_dim or max(1, width // config.heads)
        self.value_dim = max(1, round(self.head_dim * config.expand_v))
        self.query = Linear(width, self.heads * self.head_dim, rngs=rngs)
        self.key = Linear(width, self.heads * self.head_dim, rngs=rngs)
        self.value = Linear(width, self.heads * self.value_dim, rngs=rngs)
        self.output = Linear(self.heads * self.value_dim, width, rngs=rngs)
        self.norm = None if config.normalize else RMSNorm(self.value_dim)

    def init_state(self, batch_size: int) -> LinearAttentionState:
        columns = self.value_dim + self.config.normalize
        return LinearAttentionState(jnp.zeros((batch_size, self.heads, self.head_dim, columns), jnp.float32))

    def flops_per_token(self, time: int) -> float:
        """Multiply-adds counted twice, per token, of the memory itself: write and read."""
        return 4.0 * self.heads * self.head_dim * (self.value_dim + self.config.normalize)

    def __call__(self, x, state=None, *, segment_ids=None, key=None) -> MixerOutput:
        heads = lambda z: z.reshape(*z.shape[:2], self.heads, -1).astype(jnp.float32)
        q, k, v = (heads(project(x)) for project in (self.query, self.key, self.value))
        if self.config.features == "elu":
            q, k = (jax.nn.elu(z) + 1 for z in (q, k))
        if self.config.normalize:
            v = jnp.concatenate([v, jnp.ones_like(v[..., :1])], axis=-1)
        o, memory = gated_linear_attention(
            q,
            k,
            v,
            scale=1.0 if self.config.normalize else None,
            initial_state=None if state is None else state.memory,
            segment_ids=segment_ids,
            implementation=self.config.implementation,
        )
        o = o[..., :-1] / (o[..., -1:] + _EPSILON) if self.norm is None else self.norm(o)
        y = self.output(o.reshape(*x.shape[:2], -1).astype(x.dtype))
        return MixerOutput(y, LinearAttentionState(memory), {})
