"""Mamba2 (Dao and Gu, ICML 2024, arXiv 2405.21060): a selective state space whose heads decay by one number a token.

    z, x, B, C, dt = W u           x, B, C <- silu(conv(x)), silu(conv(B)), silu(conv(C))
    dt <- softplus(dt + dt_bias)   a = exp(-exp(A_log) dt)
    S <- a S + B (dt x)^T;   y = S^T C + D x           out = W_o RMSNorm(y * silu(z)), a norm a group

    paper     here                    shape
    h         state.memory            [B, G, N, P], G heads of P channels
    x, z      value, gate             [B, T, G P]
    B, C      write, read             [B, T, groups, N], shared by the heads of a group
    dt, A     step, A_log             [B, T, G], [G]
    D         skip                    [G]

Where we differ: the projections are matrices of their own in place of one joint matrix, the convolutions likewise.

Options that are papers of their own:
- `one_channels`, `zero_channels` (Wang et al., arXiv 2501.00658, "polarization"): further state channels, with writes
  and reads of their own, whose decay after discretisation is exactly 1 (never forgets, against the bias towards recent
  tokens) or exactly 0 (sees its own token only, against over-smoothing). The authors' code takes A = 0 and A = -100 in
  place of these limits; exp(-100 dt) at dt = 1e-3 is 0.9, not 0.
- `init="mimetic"` (Trockman et al., arXiv 2410.11135): begins as linear attention, so that recall has a start:
  decays near 1 (A_log = -8, dt = 1 whatever the token), C = B so that a query finds its like, and convolutions that
  pass their input on. No code was released; the numbers are a reconstruction.
"""

import dataclasses
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from memjax.layers import Linear, ShortConv, gate_step, init_decay_gate
from memjax.layers.norms import rms_normalize
from memjax.ops import gated_linear_attention
from memjax.ops.gated_linear_attention import Implementation
from memjax.types import MixerConfig, MixerOutput

_MIMETIC_A_LOG = -8.0
_STEP_OF_ONE = 0.541324855  # softplus of it is 1


class Mamba2State(NamedTuple):
    """Attributes:
    memory: [B, G, N + one_channels, P] float32, the channels that never forget last.
    conv_value, conv_write, conv_read: the last W-1 inputs of the convolutions, [B, W-1, channels] float32.
    """

    memory: Float[Array, "B G N P"]
    conv_value: Float[Array, "B W1 GP"]
    conv_write: Float[Array, "B W1 N"]
    conv_read: Float[Array, "B W1 N"]


@dataclasses.dataclass(frozen=True)
class Mamba2Config(MixerConfig):
    """Configuration of `Mamba2`; the defaults are the paper's."""

    expand: float = 2.0
    """Channels of all heads over the width, G P / D."""
    head_dim: int = 64
    """Channels of a head, P; it divides the channels of all heads."""
    state_size: int = 128
    """Channels of the state, N."""
    groups: int = 1
    """Groups of heads that share B and C; they divide the number of heads."""
    conv_width: int = 4
    """Tokens that the short convolutions see, W."""
    init: Literal["default", "mimetic"] = "default"
    """Initial values: Mamba2's own, or those that imitate linear attention (arXiv 2410.11135)."""
    one_channels: int = 0
    """Further state channels whose decay is exactly 1 (arXiv 2501.00658)."""
    zero_channels: int = 0
    """Further state channels whose decay is exactly 0 (arXiv 2501.00658)."""
    norm_epsilon: float = 1e-6
    """Epsilon of the output's RMSNorm."""
    implementation: Implementation | None = None
    """Implementation of `memjax.ops.gated_linear_attention`; None chooses by platform."""

    def make(self, width: int, *, rngs: nnx.Rngs) -> "Mamba2":
        return Mamba2(self, width, rngs=rngs)


class Mamba2(nnx.Module):
    """The mixer; see the head of this file for its equations."""

    def __init__(self, config: Mamba2Config, width: int, *, rngs: nnx.Rngs):
        self.config = config
        inner = round(config.expand * width)
        self.heads = inner // config.head_dim
        if self.heads < 1 or inner % config.head_dim:
            raise ValueError(f"Mamba2: head_dim={config.head_dim} does not divide expand * width = {inner}")
        if self.heads % config.groups:
            raise ValueError(f"Mamba2: groups={config.groups} do not divide {self.heads} heads")
        self.sizes = (config.state_size, config.one_channels, config.zero_channels)
        states = config.groups * sum(self.sizes)
        self.value = Linear(width, inner, rngs=rngs)
        self.gate = Linear(width, inner, rngs=rngs)
        self.write = Linear(width, states, rngs=rngs)
        self.read = Linear(width, states, rngs=rngs)
        self.step = Linear(width, self.heads, rngs=rngs)
        self.output = Linear(inner, width, rngs=rngs)
        self.conv_value = ShortConv(config.conv_width, inner, bias=True, rngs=rngs)
        self.conv_write = ShortConv(config.conv_width, states, bias=True, rngs=rngs)
        self.conv_read = ShortConv(config.conv_width, states, bias=True, rngs=rngs)
        self.norm_scale = nnx.Param(jnp.ones((inner,), jnp.float32))
        A_log, dt_bias = init_decay_gate(rngs.params(), self.heads, lowest=1.0)
        self.A_log, self.dt_bias = nnx.Param(A_log), nnx.Param(dt_bias)
        self.skip = nnx.Param(jnp.ones((self.heads,), jnp.float32))
        if config.init == "mimetic":
            self._imitate_attention()

    def _imitate_attention(self):
        self.A_log = nnx.Param(jnp.full_like(self.A_log[...], _MIMETIC_A_LOG))
        self.dt_bias = nnx.Param(jnp.full_like(self.dt_bias[...], _STEP_OF_ONE))
        self.step.kernel = nnx.Param(jnp.zeros_like(self.step.kernel[...]))
        self.read.kernel = nnx.Param(self.write.kernel[...])
        for conv in (self.conv_value, self.conv_write, self.conv_read):
            conv.kernel = nnx.Param(jnp.zeros_like(conv.kernel[...]).at[-1].set(1.0))
            conv.bias = nnx.Param(jnp.zeros((conv.kernel.shape[1],), jnp.float32))

    def init_state(self, batch_size: int) -> Mamba2State:
        memory = jnp.zeros((batch_size, self.heads, sum(self.sizes[:2]), self.config.head_dim), jnp.float32)
        convs = (conv.init_state(batch_size) for conv in (self.conv_value, self.conv_write, self.conv_read))
        return Mamba2State(memory, *convs)

    def flops_per_token(self, time: int) -> float:
        """Multiply-adds counted twice, per token, of the memory itself: decay and write, read."""
        return 5.0 * self.heads * self.config.head_dim * sum(self.sizes)

    def __call__(self, x, state=None, *, segment_ids=None, key=None) -> MixerOutput:
        state = self.init_state(x.shape[0]) if state is None else state
        v, conv_value = self.conv_value(self.value(x), state.conv_value, segment_ids)
        b, conv_write = self.conv_write(self.write(x), state.conv_write, segment_ids)
        c, conv_read = self.conv_read(self.read(x), state.conv_read, segment_ids)
        dt, log_decay = gate_step(self.step(x), self.A_log[...], self.dt_bias[...])
        v = v.astype(jnp.float32).reshape(*x.shape[:2], self.heads, -1)
        y, memory = self._remember(v * dt[..., None], b, c, log_decay, state.memory, segment_ids)
        y = y + self.skip[...][None, None, :, None] * v
        gated = y.reshape(*x.shape[:2], -1) * jax.nn.silu(self.gate(x).astype(jnp.float32))
        by_group = rms_normalize(gated.reshape(*x.shape[:2], self.config.groups, -1), self.config.norm_epsilon)
        normed = by_group.reshape(gated.shape) * self.norm_scale[...][None, None]
        y = self.output(normed.astype(x.dtype))
        return MixerOutput(y, Mamba2State(memory, conv_value, conv_write, conv_read), {})

    def _remember(self, v, b, c, log_decay, memory, segment_ids):
        """y [B, T, G, P] and the memory after the call."""
        grouped = lambda z: z.reshape(*z.shape[:2], self.config.groups, -1)
        size, end = self.sizes[0], sum(self.sizes[:2])
        (b, b_one, b_zero), (c, c_one, c_zero) = (jnp.split(grouped(z), (size, end), axis=-1) for z in (b, c))
        remember = partial(
            gated_linear_attention,
            scale=1.0,
            segment_ids=segment_ids,
            implementation=self.config.implementation,
        )
        y, after = remember(c, b, v, log_decay, initial_state=memory[:, :, :size])
        if self.config.one_channels:
            more, ones = remember(c_one, b_one, v, None, initial_state=memory[:, :, size:])
            y, after = y + more, jnp.concatenate([after, ones], axis=2)
        if self.config.zero_channels:
            met = (c_zero.astype(jnp.float32) * b_zero).sum(-1)
            met = jnp.repeat(met, self.heads // self.config.groups, axis=-1)
            y = y + met[..., None] * v
        return y, after
