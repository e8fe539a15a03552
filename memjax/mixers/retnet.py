"""RetNet's multi-scale retention (Sun et al., 2023, arXiv 2307.08621).

Linear attention whose memory fades at a fixed rate, another one in each head, with rotated queries and keys:

    q, k = rotary(W_q x), rotary(W_k x)      v = W_v x      gamma_h = 1 - 2^(-5 - h)
    S <- gamma_h S + k v^T;   o = S^T q / sqrt(K)          y = W_o (RMSNorm(o) * silu(W_g x))

    paper     here               shape
    S_n       state.memory       [B, H, K, V]
    gamma     log_decay          [H], not learned
    n         state.count        [B], the position in the document

Where we differ: the norm of a head is an RMSNorm without scale (the paper's GroupNorm subtracts the mean, its released
code does not).
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from memjax.layers import Linear, rotary
from memjax.layers.norms import rms_normalize
from memjax.ops import gated_linear_attention, segments
from memjax.ops.gated_linear_attention import Implementation
from memjax.types import MixerConfig, MixerOutput


class RetNetState(NamedTuple):
    """Attributes:
    memory: [B, H, K, V] float32.
    count: [B] int32, tokens of the current document so far.
    """

    memory: Float[Array, "B H K V"]
    count: Int[Array, " B"]


@dataclasses.dataclass(frozen=True)
class RetNetConfig(MixerConfig):
    """Configuration of `RetNet`; the paper's 1.3B model has 8 heads at width 2048."""

    heads: int = 8
    """Heads H."""
    head_dim: int | None = None
    """Key channels of a head, K, even; None takes the width over `heads`."""
    expand_v: float = 2.0
    """Value channels of a head over its key channels, V / K."""
    rotary_base: float = 10_000.0
    """Base of the rotary embedding."""
    norm_epsilon: float = 1e-6
    """Epsilon of the output's norm."""
    implementation: Implementation | None = None
    """Implementation of `memjax.ops.gated_linear_attention`; None chooses by platform."""

    def make(self, width: int, *, rngs: nnx.Rngs) -> "RetNet":
        return RetNet(self, width, rngs=rngs)


class RetNet(nnx.Module):
    """The mixer; see the head of this file for its equations."""

    def __init__(self, config: RetNetConfig, width: int, *, rngs: nnx.Rngs):
        self.config = config
        self.heads, self.head_dim = config.heads, config.head_dim or max(2, width // config.heads)
        if self.head_dim % 2:
            raise ValueError(f"RetNet: rotary positions need an even head_dim, not {self.head_dim}")
        self.value_dim = max(1, round(self.head_dim * config.expand_v))
        keys, values = self.heads * self.head_dim, self.heads * self.value_dim
        self.query = Linear(width, keys, rngs=rngs)
        self.key = Linear(width, keys, rngs=rngs)
        self.value = Linear(width, values, rngs=rngs)
        self.gate = Linear(width, values, rngs=rngs)
        self.output = Linear(values, width, rngs=rngs)

    def init_state(self, batch_size: int) -> RetNetState:
        memory = jnp.zeros((batch_size, self.heads, self.head_dim, self.value_dim), jnp.float32)
        return RetNetState(memory, jnp.zeros((batch_size,), jnp.int32))

    def flops_per_token(self, time: int) -> float:
        """Multiply-adds counted twice, per token, of the memory itself: decay and write, read."""
        return 5.0 * self.heads * self.head_dim * self.value_dim

    def __call__(self, x, state=None, *, segment_ids=None, key=None) -> MixerOutput:
        batch, time, _ = x.shape
        state = self.init_state(batch) if state is None else state
        docs = segments.one_document(batch, time) if segment_ids is None else segments.documents(segment_ids)
        position, count = segments.count_on(docs, state.count)
        heads = lambda z: z.reshape(batch, time, self.heads, -1)
        turned = lambda z: rotary(heads(z), position, base=self.config.rotary_base)
        log_decay = jnp.asarray([math.log1p(-(2.0 ** (-5 - h))) for h in range(self.heads)], jnp.float32)
        o, memory = gated_linear_attention(
            turned(self.query(x)),
            turned(self.key(x)),
            heads(self.value(x)),
            jnp.broadcast_to(log_decay, (batch, time, self.heads)),
            initial_state=state.memory,
            segment_ids=segment_ids,
            implementation=self.config.implementation,
        )
        gated = rms_normalize(o, self.config.norm_epsilon) * jax.nn.silu(heads(self.gate(x)))
        y = self.output(gated.reshape(batch, time, -1).astype(x.dtype))
        return MixerOutput(y, RetNetState(memory, count), {})
