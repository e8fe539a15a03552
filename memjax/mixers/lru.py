"""LRU: linear recurrent unit (Orvieto et al., ICML 2023, arXiv 2303.06349).

A diagonal complex recurrence that all channels share, its eigenvalues drawn from a ring of the unit disk:

    lambda = exp(-exp(nu) + i exp(theta))           |lambda|^2 uniform on [r_min^2, r_max^2], phase on [0, max_phase]
    h_t = lambda h_{t-1} + exp(gamma_log) (B u_t)   gamma = sqrt(1 - |lambda|^2) at the beginning, then trained
    y_t = Re(C h_t) + D u_t                         out = GLU(W_o gelu(y))

    paper        here                    shape
    N            state_size              P complex states
    nu           radius                  [P]
    theta        theta_log               [P], logarithm of the phase in radians
    gamma_log    gamma_log               [P]
    B, C         input, readout          [D, 2P], [2P, D]: the real parts first, then the imaginary ones
    D            skip                    [D]
    h            state.memory            [B, P, 2]

Where we differ: the modulus may be reparameterised in the ways of StableSSM (Wang and Li, arXiv 2311.14495); "exp" is
the LRU's own.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from memjax.layers import Linear, join_pair, split_pair, stable_rate
from memjax.layers.stable_rate import Reparameterization
from memjax.ops import linear_scan
from memjax.ops.linear_scan import Implementation
from memjax.types import MixerConfig, MixerOutput


class LRUState(NamedTuple):
    """Attributes:
    memory: [B, P, 2] float32, real and imaginary part of the states.
    """

    memory: Float[Array, "B P 2"]


@dataclasses.dataclass(frozen=True)
class LRUConfig(MixerConfig):
    """Configuration of `LRU`."""

    state_size: int | None = None
    """Complex states, N; None takes as many as the width, the paper's usual proportion."""
    r_min: float = 0.0
    """Inner radius of the ring that eigenvalues are drawn from."""
    r_max: float = 1.0
    """Outer radius of the ring; at most 1."""
    max_phase: float = 2 * math.pi
    """Largest phase in radians; small ones suit long ranges (pi/10 for Path-X)."""
    reparameterization: Reparameterization = "exp"
    """How a weight becomes the modulus: "exp" is the paper's, the others StableSSM's (arXiv 2311.14495)."""
    implementation: Implementation | None = None
    """Implementation of `memjax.ops.linear_scan`; None chooses by platform."""

    def make(self, width: int, *, rngs: nnx.Rngs) -> "LRU":
        return LRU(self, width, rngs=rngs)


class LRU(nnx.Module):
    """The mixer; see the head of this file for its equations."""

    def __init__(self, config: LRUConfig, width: int, *, rngs: nnx.Rngs):
        states = width if config.state_size is None else config.state_size
        if states < 1:
            raise ValueError(f"LRU: state_size={states} must be positive")
        if not 0 <= config.r_min < config.r_max <= 1:
            raise ValueError(f"LRU: r_min={config.r_min} and r_max={config.r_max} are no ring inside the unit circle")
        if config.max_phase <= 0:
            raise ValueError(f"LRU: max_phase={config.max_phase} must be positive")
        self.config = config
        log_modulus, phase = draw_ring(rngs.params(), states, config.r_min, config.r_max, config.max_phase)
        self.radius = nnx.Param(stable_rate.weight_of_log_modulus(log_modulus, config.reparameterization))
        self.theta_log = nnx.Param(jnp.log(phase))
        self.gamma_log = nnx.Param(0.5 * jnp.log(-jnp.expm1(2 * log_modulus)))
        # Glorot: B's variance is shared between its two parts, of C h the real part alone is read
        self.input = Linear(width, 2 * states, rngs=rngs, std=(2 * width) ** -0.5)
        self.readout = Linear(2 * states, width, rngs=rngs, std=states**-0.5)
        self.skip = nnx.Param(jax.random.normal(rngs.params(), (width,), jnp.float32))
        self.output = Linear(width, 2 * width, rngs=rngs)

    def init_state(self, batch_size: int) -> LRUState:
        return LRUState(jnp.zeros((batch_size, self.radius.shape[0], 2), jnp.float32))

    def flops_per_token(self, time: int) -> float:
        """Multiply-adds counted twice, per token, of the recurrence itself; B and C are projections."""
        return 8.0 * self.radius.shape[0]

    def eigenvalues(self):
        """lambda, [P] complex64."""
        size = stable_rate.modulus(self.radius[...], self.config.reparameterization)
        phase = jnp.exp(self.theta_log[...])
        return jax.lax.complex(size * jnp.cos(phase), size * jnp.sin(phase))

    def __call__(self, x, state=None, *, segment_ids=None, key=None) -> MixerOutput:
        state = self.init_state(x.shape[0]) if state is None else state
        real, imaginary = jnp.split(self.input(x).astype(jnp.float32), 2, axis=-1)
        gamma = jnp.exp(self.gamma_log[...])[None, None]
        h, last = linear_scan(
            self.eigenvalues(),
            jax.lax.complex(gamma * real, gamma * imaginary),
            initial_state=join_pair(state.memory),
            segment_ids=segment_ids,
            implementation=self.config.implementation,
        )
        # Re(C h) = Re C Re h - Im C Im h; the sign is in the weights
        y = self.readout(jnp.concatenate([h.real, h.imag], axis=-1).astype(x.dtype))
        y = jax.nn.gelu(y + self.skip[...][None, None] * x).astype(x.dtype)
        return MixerOutput(jax.nn.glu(self.output(y)), LRUState(split_pair(last)), {})


def draw_ring(
    key: jax.Array, count: int, r_min: float, r_max: float, max_phase: float
) -> tuple[Float[Array, "P"], Float[Array, "P"]]:
    """log |lambda| and the phase of lambda, |lambda|^2 uniform on (r_min^2, r_max^2) and the phase on (0, max_phase).

    Logarithms keep |lambda| apart from 1, which float32 rounds a modulus of 1 - 3e-8 to.
    """
    key_radius, key_phase = jax.random.split(key)
    tiny = jnp.finfo(jnp.float32).tiny
    square = jax.random.uniform(key_radius, (count,), jnp.float32, tiny, 1.0) * (r_max**2 - r_min**2) + r_min**2
    # a square that rounded to 1 would be an undamped state with gamma = 0
    log_modulus = 0.5 * jnp.log(jnp.clip(square, tiny, 1 - 2**-24))
    return log_modulus, jax.random.uniform(key_phase, (count,), jnp.float32, tiny, max_phase)
