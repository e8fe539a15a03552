"""Mixture-of-Memories (Du, Sun, Lan et al., 2025, arXiv 2502.13685).

M independent memories; a router sends each token to k of them, and a shared one sees all tokens:

    p = softmax(W_r x);   the k largest, w = p / sum of these            q = W_q x
    k_m, v_m, beta_m, g_m = projections of x that belong to memory m     for the k memories of the token
    S_m <- rule(S_m; k_m, v_m, beta_m, g_m)                              the other memories neither decay nor write
    o = sum_m w_m S_m^T q / sqrt(K) + S_s^T q / sqrt(K)                  y = W_o (RMSNorm(o) * silu(W_g x))

    paper        here                      shape
    M_t^m        state.memory              [B, M, H, K, V]
    shared       state.shared              [B, H, K, V], no memories where `shared` is False
    g (router)   router                    [D, M]
    W_k, W_v     key, value                [M, D, H K], [M, D, H V]; one matrix with `shared_projections`

The rule is that of Gated DeltaNet by default (its equations: gated_delta_net.py), with the convolution and the norms of
that layer. The convolution acts on each memory's own subsequence, which is what the authors' code means to do;
`conv_on="sequence"` lets it act on the layer's input before routing, as the paper's text leaves open.

Where we differ: tokens are sorted into one stream of whole chunks (`memjax.ops.routing`), nothing is dropped, and
neither the state nor the convolution passes from one memory's tokens to another's.
"""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from memjax.layers import Linear, RMSNorm, ShortConv, gate_log_decay, init_decay_gate, l2_normalize
from memjax.ops import chunking, gated_delta_rule, routing, segments
from memjax.types import MixerConfig, MixerOutput


class MixtureOfMemoriesState(NamedTuple):
    """Attributes:
    memory: [B, M, H, K, V] float32.
    conv_query, conv_key, conv_value: the last W-1 tokens of each memory, [B, M, W-1, channels] float32.
    shared: [B, S, H, K, V] float32 with S = 1, or none.
    shared_query, shared_key, shared_value: [B, S, W-1, channels] float32.
    """

    memory: Float[Array, "B M H K V"]
    conv_query: Float[Array, "B M P HK"]
    conv_key: Float[Array, "B M P HK"]
    conv_value: Float[Array, "B M P HV"]
    shared: Float[Array, "B H K V"] | None
    shared_query: Float[Array, "B P HK"] | None
    shared_key: Float[Array, "B P HK"] | None
    shared_value: Float[Array, "B P HV"] | None


@dataclasses.dataclass(frozen=True)
class MixtureOfMemoriesConfig(MixerConfig):
    """Configuration of `MixtureOfMemories`; four memories, two a token and a shared one are the paper's."""

    memories: int = 4
    """Memories that tokens are routed to, M."""
    topk: int = 2
    """Memories of a token, k."""
    shared: bool = True
    """A further memory that sees every token."""
    heads: int = 4
    """Heads H of each memory."""
    head_dim: int | None = None
    """Key channels of a head, K; None takes 3/4 of the width over `heads`."""
    expand_v: float = 1.0
    """Value channels of a head over its key channels, V / K."""
    conv_width: int = 4
    """Tokens that the short convolutions see, W."""
    shared_projections: bool = False
    """One set of key, value, beta and decay projections for all memories, the paper's lighter variant."""
    negative_eigenvalues: bool = False
    """beta in [0, 2] instead of [0, 1]: the transition may reflect (arXiv 2411.12537)."""
    balance_weight: float = 0.01
    """Weight of the auxiliary loss M sum_m f_m P_m (f: tokens of a memory over tokens, P: its mean probability), which
    is `topk` when balanced."""
    norm_epsilon: float = 1e-6
    """Epsilon of the output's RMSNorm."""

    def make(self, width: int, *, rngs: nnx.Rngs) -> "MixtureOfMemories":
        return MixtureOfMemories(self, width, rngs=rngs)


class MixtureOfMemories(nnx.Module):
    """The mixer; see the head of this file for its equations."""

    def __init__(self, config: MixtureOfMemoriesConfig, width: int, *, rngs: nnx.Rngs):
        if not 1 <= config.topk <= config.memories:
            raise ValueError(f"MixtureOfMemories: topk={config.topk} must lie in 1 .. memories={config.memories}")
        self.config = config
        self.heads = config.heads
        self.head_dim = config.head_dim or max(1, 3 * width // (4 * config.heads))
        self.value_dim = max(1, round(self.head_dim * config.expand_v))
        keys, values = self.heads * self.head_dim, self.heads * self.value_dim
        self.sizes = (keys, values, self.heads, self.heads)  # key, value, beta and decay
        self.router = Linear(width, config.memories, rngs=rngs)
        self.query = Linear(width, keys, rngs=rngs)
        own = 1 if config.shared_projections else config.memories
        self.own = Matrices(own, width, self.sizes, rngs=rngs)
        self.common = Matrices(1, width, self.sizes, rngs=rngs) if config.shared else None
        self.gate = Linear(width, values, rngs=rngs)
        self.output = Linear(values, width, rngs=rngs)
        self.conv_query = ShortConv(config.conv_width, keys, rngs=rngs)
        self.conv_key = ShortConv(config.conv_width, keys, rngs=rngs)
        self.conv_value = ShortConv(config.conv_width, values, rngs=rngs)
        self.norm = RMSNorm(self.value_dim, epsilon=config.norm_epsilon)
        self.A_log, self.dt_bias = (nnx.Param(x) for x in init_decay_gate(rngs.params(), self.heads))


class Matrices(nnx.Module):
    """Projections of M memories to key, value, beta and decay, kernels [M, D, size]."""

    def __init__(self, memories: int, width: int, sizes: tuple[int, ...], *, rngs: nnx.Rngs):
        stack = lambda size: nnx.Param(
            jnp.stack([Linear(width, size, rngs=rngs).kernel[...] for _ in range(memories)])
        )
        self.key, self.value, self.beta, self.decay = (stack(size) for size in sizes)

    def joint(self) -> Float[Array, "M D F"]:
        """All four side by side, for one product."""
        return jnp.concatenate([self.key[...], self.value[...], self.beta[...], self.decay[...]], axis=-1)
