"""S4: structured state-space model (Gu, Goel and Re, ICLR 2022, arXiv 2111.00396).

Each channel is a system of N states of its own whose matrix is HiPPO-LegS to begin with, written as a diagonal minus a
rank-one matrix, and sampled by the bilinear rule at a step dt that is learned:

    s' = (Lambda - P P^*) s + B u      y = 2 Re(C s) + D u         one of each conjugate pair of states
    K_l = C Abar^l Bbar                y = K * u + D u, the same map as a convolution
    out = GLU(W_o gelu(y))             GLU(a, b) = a sigmoid(b)

    paper       here                     shape
    N           state_size               M = N/2 complex states
    Lambda      A_real, A_imag           [D, M], Lambda = -exp(A_real) + i A_imag
    P, B, C     P_pair, B_pair, C_pair   [D, M, 2], real and imaginary part
    Delta       exp(log_dt)              [D]
    D           skip                     [D]
    x           state.memory             [B, D, M, 2]

Its ancestor is LSSL (Gu et al., NeurIPS 2021, arXiv 2110.13985): the same map with the matrix dense, and the kernel by
powers of it, at N times the time and memory. It is not built apart.

Where we differ: Q = P and Re Lambda < 0, so that a step is a contraction whatever is learned (as in the authors' later
code). C is the system's own, where the authors train C (I - Abar^L) for one length L: here every length has the same C,
and convolution, chunks and recurrence agree. The kernel's generating function has no pole; see `memjax.ops.dplr`.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from memjax.layers import Linear, init_log_step, join_pair, split_pair
from memjax.ops import DPLR, dplr_ssm, hippo
from memjax.ops.dplr import Mode
from memjax.types import MixerConfig, MixerOutput


class S4State(NamedTuple):
    """Attributes:
    memory: [B, D, M, 2] float32, real and imaginary part of the states.
    """

    memory: Float[Array, "B D M 2"]


@dataclasses.dataclass(frozen=True)
class S4Config(MixerConfig):
    """Configuration of `S4`; the defaults are the paper's."""

    state_size: int = 64
    """States of a channel, N; even."""
    dt_min: float = 1e-3
    """Shortest step at the beginning, Delta_min; steps are drawn log-uniformly, one a channel."""
    dt_max: float = 1e-1
    """Longest step at the beginning, Delta_max."""
    mode: Mode | None = None
    """Form of the map over more than one token: "convolution" (the paper's; neither packed documents nor exact
    causality), "chunked", "recurrence"; None takes "chunked", the faster one (292 and 369 ms of gradient at B = 16,
    T = 784, D = 64, N = 64 on two CPU cores)."""

    def make(self, width: int, *, rngs: nnx.Rngs) -> "S4":
        return S4(self, width, rngs=rngs)


class S4(nnx.Module):
    """The mixer; see the head of this file for its equations."""

    def __init__(self, config: S4Config, width: int, *, rngs: nnx.Rngs):
        if config.state_size < 2 or config.state_size % 2:
            raise ValueError(f"S4: state_size={config.state_size} must be even and positive")
        self.config = config
        legs = hippo.diagonal_plus_low_rank("legs", config.state_size)
        rows = lambda x: jnp.tile(jnp.asarray(x, jnp.float32)[None], (width, 1))
        pair = lambda x: nnx.Param(jnp.stack([rows(np.real(x)), rows(np.imag(x))], axis=-1))
        self.A_real = nnx.Param(jnp.log(-rows(np.real(legs.eigenvalues))))
        self.A_imag = nnx.Param(rows(np.imag(legs.eigenvalues)))
        self.P_pair, self.B_pair = pair(legs.p[:, 0]), pair(legs.b)
        # complex normal: the two parts share a variance of 1
        self.C_pair = nnx.Param(jax.random.normal(rngs.params(), self.B_pair.shape, jnp.float32) * 0.5**0.5)
        steps = init_log_step(rngs.params(), width, shortest=config.dt_min, longest=config.dt_max)
        self.log_dt = nnx.Param(steps)
        self.skip = nnx.Param(jax.random.normal(rngs.params(), (width,), jnp.float32))
        self.output = Linear(width, 2 * width, rngs=rngs)

    def init_state(self, batch_size: int) -> S4State:
        return S4State(jnp.zeros((batch_size, *self.B_pair.shape), jnp.float32))

    def flops_per_token(self, time: int) -> float:
        """Multiply-adds counted twice, per token, of a step of the recurrence: two diagonals, two rank-one terms,
        write and read."""
        return 48.0 * self.A_real.shape[0] * self.A_real.shape[1]

    def system(self) -> DPLR:
        """The systems of all channels in continuous time."""
        eigenvalues = jax.lax.complex(-jnp.exp(self.A_real[...]), self.A_imag[...])
        p, b, c = (join_pair(a[...]) for a in (self.P_pair, self.B_pair, self.C_pair))
        return DPLR(eigenvalues, p, b, c, jnp.exp(self.log_dt[...]))

    def __call__(self, x, state=None, *, segment_ids=None, key=None) -> MixerOutput:
        memory = None if state is None else join_pair(state.memory)
        y, memory = dplr_ssm(x, self.system(), initial_state=memory, segment_ids=segment_ids, mode=self.config.mode)
        y = jax.nn.gelu(y + self.skip[...][None, None] * x).astype(x.dtype)
        return MixerOutput(jax.nn.glu(self.output(y)), S4State(split_pair(memory)), {})
