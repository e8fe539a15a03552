"""RG-LRU in the recurrent block of Griffin (De et al., arXiv 2402.19427, sections 2.3 and 2.4, appendices A and B).

    u = conv(W_x x)                            width 4, with bias, no activation
    r, i = sigmoid(A_r u + b_r), sigmoid(A_i u + b_i)         A_r, A_i block-diagonal
    log a = -8 r softplus(Lambda)
    h_t = a_t h_{t-1} + sqrt(1 - a_t^2) (i_t u_t)             the root is 1 at the first token of a document
    y = W_o (gelu(W_g x) * h)

    paper    here                   shape
    h        state.hidden           [B, R]   R = recurrent_width, the paper's D_RNN
    r, i     recurrence_gate, input_gate   [B, T, R] ([B, T, R/2] if complex)
    Lambda   Lambda                 [R] ([R/2])
    a_t      exp(log_decay)         [B, T, R] ([B, T, R/2])
    theta    theta                  [R/2]

Complex form (appendix B): the halves of u and of h are real and imaginary parts, a = exp(log |a| + i r theta), and
|a|^2 stands under the root. theta here is 8 times the paper's.

1 - a^2 is -expm1(2 log a), exact for a close to 1, where the difference has no digits left. The slope of the root is
bounded by 1000: it grows without limit as the gate r closes, and once r is 0 in float32 it would meet a zero in the
chain rule. The bound is reached at 1 - a^2 < 2.5e-7, where the token writes less than 5e-4 of its input.

Griffin alternates two such blocks with one of local attention: `AttentionConfig(kv_heads=1, context=1024)`.

Where we differ: the projections have no biases. The root's 1 at a document's start is in the authors' code, not in the
text; here the state says whether the document has begun, so that a document may be cut anywhere.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from memjax.layers import Linear, ShortConv
from memjax.ops import linear_scan, segments
from memjax.ops.linear_scan import Implementation
from memjax.types import MixerConfig, MixerOutput

_SHARPNESS = 8.0  # the paper's c
_RING = (0.9, 0.999)  # |a| at r = 1/8, uniform by area
_LARGEST_ANGLE = 0.1 * jnp.pi  # of theta, as in the authors' code
_STEEPEST = 1000.0


class RGLRUState(NamedTuple):
    """Attributes:
    hidden: [B, R] float32; in the complex form the R/2 real parts, then the R/2 imaginary ones.
    conv: the last W-1 inputs of the convolution, [B, W-1, R] float32.
    begun: [B] int32, 1 once the document has a token.
    """

    hidden: Float[Array, "B R"]
    conv: Float[Array, "B W-1 R"]
    begun: Int[Array, "B"]


@dataclasses.dataclass(frozen=True)
class RGLRUConfig(MixerConfig):
    """Configuration of `RGLRU`; the defaults are Griffin's."""

    recurrent_width: int | None = None
    """Channels of the recurrence R, a multiple of `blocks`; None takes 4/3 of the width, rounded up to one."""
    blocks: int = 16
    """Blocks on the diagonal of the two gate matrices."""
    conv_width: int = 4
    """Tokens that the short convolution sees, W."""
    complex_valued: bool = False
    """R/2 complex states in place of R real ones (arXiv 2402.19427, appendix B); a block is then of even size."""
    implementation: Implementation | None = None
    """Implementation of `memjax.ops.linear_scan`; None chooses by platform."""

    def make(self, width: int, *, rngs: nnx.Rngs) -> "RGLRU":
        return RGLRU(self, width, rngs=rngs)


class BlockDiagonal(nnx.Module):
    """y_n = x_n @ kernel_n + bias_n on each of N slices of the channels; kernel [N, in, out], bias [N * out]."""

    def __init__(self, blocks: int, in_size: int, out_size: int, *, rngs: nnx.Rngs):
        draw = jax.nn.initializers.truncated_normal(in_size**-0.5)
        self.kernel = nnx.Param(draw(rngs.params(), (blocks, in_size, out_size), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((blocks * out_size,), jnp.float32))

    def __call__(self, x: Float[Array, "B T I"]) -> Float[Array, "B T O"]:
        """The result is float32."""
        kernel = self.kernel[...].astype(x.dtype)
        slices = x.reshape(*x.shape[:2], *kernel.shape[:2])
        y = jnp.einsum("btni,nio->btno", slices, kernel).reshape(*x.shape[:2], -1)
        return y.astype(jnp.float32) + self.bias[...][None, None]


class RGLRU(nnx.Module):
    """The mixer; see the head of this file for its equations."""

    def __init__(self, config: RGLRUConfig, width: int, *, rngs: nnx.Rngs):
        self.config = config
        parts = 2 if config.complex_valued else 1
        multiple = config.blocks * parts
        self.channels = config.recurrent_width or -(-4 * width // (3 * multiple)) * multiple
        if self.channels % multiple:
            raise ValueError(
                f"RGLRU: recurrent_width={self.channels} is no multiple of {'2 * ' * (parts - 1)}blocks={config.blocks}"
            )
        size, states = self.channels // config.blocks, self.channels // parts
        self.gate = Linear(width, self.channels, rngs=rngs)
        self.input = Linear(width, self.channels, rngs=rngs)
        self.output = Linear(self.channels, width, rngs=rngs)
        self.conv = ShortConv(config.conv_width, self.channels, rngs=rngs, bias=True, activation=None)
        self.recurrence_gate = BlockDiagonal(config.blocks, size, size // parts, rngs=rngs)
        self.input_gate = BlockDiagonal(config.blocks, size, size // parts, rngs=rngs)
        self.Lambda = nnx.Param(init_lambda(rngs.params(), states))
        angle = lambda: jax.random.uniform(rngs.params(), (states,), jnp.float32, 0.0, _LARGEST_ANGLE)
        self.theta = nnx.Param(angle()) if config.complex_valued else None

    def init_state(self, batch_size: int) -> RGLRUState:
        hidden = jnp.zeros((batch_size, self.channels), jnp.float32)
        return RGLRUState(hidden, self.conv.init_state(batch_size), jnp.zeros((batch_size,), jnp.int32))

    def flops_per_token(self, time: int) -> float:
        """Multiply-adds counted twice, per token, of the memory itself: the gates' blocks; gate, scale, decay, add."""
        blocks = self.recurrence_gate.kernel.size + self.input_gate.kernel.size
        return 2.0 * blocks + (6.0 if self.config.complex_valued else 4.0) * self.channels

    def __call__(self, x, state=None, *, segment_ids=None, key=None) -> MixerOutput:
        state = self.init_state(x.shape[0]) if state is None else state
        u, conv = self.conv(self.input(x), state.conv, segment_ids)
        first, begun = _starts(state.begun, segment_ids, x.shape[1])
        r, i = jax.nn.sigmoid(self.recurrence_gate(u)), jax.nn.sigmoid(self.input_gate(u))
        log_decay = -_SHARPNESS * r * jax.nn.softplus(self.Lambda[...])[None, None]
        scale = jnp.where(first[..., None], 1, bounded_sqrt(-jnp.expm1(2 * log_decay)))
        angle = None if self.theta is None else r * self.theta[...][None, None]
        h, hidden = linear_scan(
            jnp.exp(log_decay) if angle is None else jnp.exp(jax.lax.complex(log_decay, angle)),
            scale * i * self._states(u.astype(jnp.float32)),
            initial_state=self._states(state.hidden),
            segment_ids=segment_ids,
            implementation=self.config.implementation,
        )
        mixed = jax.nn.gelu(self.gate(x)) * self._channels(h).astype(x.dtype)
        return MixerOutput(self.output(mixed), RGLRUState(self._channels(hidden), conv, begun), {})

    def _states(self, channels):
        return jax.lax.complex(*jnp.split(channels, 2, axis=-1)) if self.config.complex_valued else channels

    def _channels(self, states):
        return jnp.concatenate([states.real, states.imag], axis=-1) if self.config.complex_valued else states


def init_lambda(key: jax.Array, count: int) -> Float[Array, " count"]:
    """Lambda whose a0 = exp(-softplus(Lambda)), of which a token takes the power 8 r, has a0^2 uniform on the ring."""
    low, high = (radius**2 for radius in _RING)
    log_a = 0.5 * jnp.log(jax.random.uniform(key, (count,), jnp.float32, low, high))
    return jnp.log(jnp.expm1(-log_a))


@jax.custom_jvp
def bounded_sqrt(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """sqrt(x), x >= 0, whose derivative stops growing at 1000."""
    return jnp.sqrt(x)


@bounded_sqrt.defjvp
def _bounded_sqrt_jvp(primals, tangents):
    root = jnp.sqrt(primals[0])
    return root, tangents[0] * 0.5 / jnp.maximum(root, 0.5 / _STEEPEST)


def _starts(begun, segment_ids, time):
    """[B, T] whether a token is the first of its document, and [B] whether the last document has begun."""
    if segment_ids is None:
        first = (jnp.arange(time) == 0)[None] & (begun == 0)[:, None]
        return first, jnp.ones_like(begun)
    docs = segments.documents(segment_ids)
    fresh = (docs.index > 0) | (begun == 0)[:, None]
    first = docs.valid & (segments.positions(docs) == 0) & fresh
    return first, jnp.maximum(begun, docs.valid.any(axis=1).astype(begun.dtype))
