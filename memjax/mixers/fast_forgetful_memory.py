"""Fast and Forgetful Memory (Morad, Kortvelesy, Liwicki and Prorok, NeurIPS 2023, arXiv 2310.04128).

Each of M traces is remembered C times over, fading at the trace's rate and turning at the context's frequency, so that
amplitude and phase of an entry tell how long ago it was written:

    u = W_u x * sigmoid(W_i x)
    S_t = S_{t-1} * exp(a_m + i w_c) + u_t 1^T                  S complex, one entry a pair (m, c)
    o = sigmoid(W_o x)      y = LN(W_z [Re S, Im S]) * o + (W_s x) * (1 - o)

    paper    here                     shape
    S        state.real, state.imag   [B, M, C]
    alpha    -exp(log_rate)           [M]   per token, initially linear from the fastest to the slowest rate
    omega    frequency                [C]   radians per token, 2 pi over periods that begin linear in 1 .. longest
    1 - o, o skip, output_gate        [B, T, D]

Where we differ: the authors multiply by exp(-a t) and sum, which is why they need float64 and bound a and the length of
a piece; the linear scan has no growing exponential, so float32 serves at any length and a only has to be negative,
which log_rate makes it. Their default slowest and fastest rates stay, the latter what that bound was. A new document
begins from S = 0, also where several begin in one call. The linear maps have no biases.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from memjax.layers import Linear
from memjax.ops import linear_scan
from memjax.ops.linear_scan import Implementation
from memjax.types import MixerConfig, MixerOutput


class FastForgetfulMemoryState(NamedTuple):
    """Attributes:
    real, imag: the two parts of S, [B, M, C] float32.
    """

    real: Float[Array, "B M C"]
    imag: Float[Array, "B M C"]


@dataclasses.dataclass(frozen=True)
class FastForgetfulMemoryConfig(MixerConfig):
    """Configuration of `FastForgetfulMemory`; the defaults are those of the authors' experiments on POPGym."""

    traces: int = 32
    """Traces M, the paper's trace size m."""
    contexts: int = 4
    """Frequencies C, the paper's context size c."""
    longest: int = 1024
    """Tokens after which the slowest trace is forgotten, and the longest period; initially, both are learned."""
    forgotten: float = 0.01
    """Share of an entry that is left of it when a trace has forgotten it."""
    fastest_rate: float = 0.673
    """Initial decay rate of the fastest trace, per token."""
    implementation: Implementation | None = None
    """Implementation of `memjax.ops.linear_scan`; None chooses by platform."""

    def make(self, width: int, *, rngs: nnx.Rngs) -> "FastForgetfulMemory":
        return FastForgetfulMemory(self, width, rngs=rngs)


class FastForgetfulMemory(nnx.Module):
    """The mixer; see the head of this file for its equations."""

    def __init__(self, config: FastForgetfulMemoryConfig, width: int, *, rngs: nnx.Rngs):
        for name in ("traces", "contexts", "longest"):
            if getattr(config, name) < 1:
                raise ValueError(f"FastForgetfulMemory: {name}={getattr(config, name)} must be at least 1")
        if not 0 < config.forgotten < 1 or config.fastest_rate <= 0:
            raise ValueError(
                f"FastForgetfulMemory: forgotten={config.forgotten} must lie between 0 and 1, "
                f"fastest_rate={config.fastest_rate} above 0"
            )
        self.config = config
        states = config.traces * config.contexts
        self.input = Linear(width, config.traces, rngs=rngs)
        self.input_gate = Linear(width, config.traces, rngs=rngs)
        self.mix = Linear(2 * states, width, rngs=rngs)
        self.output_gate = Linear(width, width, rngs=rngs)
        self.skip = Linear(width, width, rngs=rngs)
        slowest = -math.log(config.forgotten) / config.longest
        self.log_rate = nnx.Param(jnp.log(jnp.linspace(config.fastest_rate, slowest, config.traces)))
        self.frequency = nnx.Param(2 * jnp.pi / jnp.linspace(1.0, config.longest, config.contexts))

    def init_state(self, batch_size: int) -> FastForgetfulMemoryState:
        zeros = jnp.zeros((batch_size, self.config.traces, self.config.contexts), jnp.float32)
        return FastForgetfulMemoryState(zeros, zeros)

    def flops_per_token(self, time: int) -> float:
        """Multiply-adds counted twice, per token, of the memory itself: a complex product and a real sum a state."""
        return 7.0 * self.config.traces * self.config.contexts

    def __call__(self, x, state=None, *, segment_ids=None, key=None) -> MixerOutput:
        state = self.init_state(x.shape[0]) if state is None else state
        u = (self.input(x) * jax.nn.sigmoid(self.input_gate(x))).astype(jnp.float32)
        s, last = linear_scan(
            self._decay(),
            jnp.repeat(u, self.config.contexts, axis=2),
            initial_state=jax.lax.complex(*(part.reshape(part.shape[0], -1) for part in state)),
            segment_ids=segment_ids,
            implementation=self.config.implementation,
        )
        read = self.mix(jnp.concatenate([s.real, s.imag], axis=2).astype(x.dtype))
        gate = jax.nn.sigmoid(self.output_gate(x))
        y = _standardize(read) * gate + self.skip(x) * (1 - gate)
        parts = (part.reshape(state.real.shape) for part in (last.real, last.imag))
        return MixerOutput(y, FastForgetfulMemoryState(*parts), {})

    def _decay(self):
        """[M * C] exp(a_m + i w_c), trace by trace."""
        shape = (self.config.traces, self.config.contexts)
        rate = jnp.broadcast_to(-jnp.exp(self.log_rate[...])[:, None], shape)
        frequency = jnp.broadcast_to(self.frequency[...][None], shape)
        return jnp.exp(jax.lax.complex(rate, frequency)).reshape(-1)


def _standardize(x):
    """Layer normalisation (Ba, Kiros and Hinton, arXiv 1607.06450) without scale and shift, computed in float32."""
    wide = x.astype(jnp.float32)
    wide = wide - wide.mean(axis=-1, keepdims=True)
    return (wide * jax.lax.rsqrt((wide**2).mean(axis=-1, keepdims=True) + 1e-5)).astype(x.dtype)
