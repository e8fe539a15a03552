"""S4D: diagonal state-space model (Gu, Gupta, Goel and Re, NeurIPS 2022, arXiv 2206.11893).

Each channel is a system of N real states of its own, diagonal in complex numbers, sampled at a step dt that is learned:

    s' = A s + B u      y = Re(C s) + D u           A = -exp(A_re) + i A_im, one of each conjugate pair, C counted twice
    s_t = Abar s_{t-1} + Bbar u_t                   zoh: Abar = exp(dt A), Bbar = (Abar - 1) / A B; or bilinear
    K_l = 2 Re sum_n C_n Bbar_n Abar_n^l            y = K * u + D u, the same map as a convolution
    out = GLU(W_o gelu(y))                          GLU(a, b) = a sigmoid(b)

    paper     here                          shape
    N         state_size                    M = N/2 complex modes; N real ones for init "real"
    A         A_real, A_imag                [D, M]
    B, C      B_pair, C_pair                [D, M, 2], real and imaginary part
    Delta     exp(log_dt)                   [D]
    D         skip                          [D]
    x         state.memory                  [B, D, M, 2]

In training the map is a convolution in chunks, in decoding a recurrence, from any state; see `memjax.ops.diagonal_ssm`.

Where we differ: without `reparameterization` given, this is the paper's S4D with a trained B. The real part may be
reparameterised as in StableSSM (Wang and Li, arXiv 2311.14495).
"""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from memjax.layers import Linear, init_log_step, join_pair, split_pair, stable_rate
from memjax.layers.stable_rate import Reparameterization
from memjax.ops import diagonal_ssm, discretize, hippo
from memjax.ops.diagonal_ssm import Mode
from memjax.types import MixerConfig, MixerOutput


class S4DState(NamedTuple):
    """Attributes:
    memory: [B, D, M, 2] float32, real and imaginary part of the modes; [B, D, N, 1] for init "real".
    """

    memory: Float[Array, "B D M parts"]


@dataclasses.dataclass(frozen=True)
class S4DConfig(MixerConfig):
    """Configuration of `S4D`; the defaults are the paper's."""

    state_size: int = 64
    """Real states of a channel, N; even except for init "real"."""
    init: hippo.Init = "legs"
    """Eigenvalues to begin with: S4D-LegS, S4D-Lin, S4D-Inv or S4D-Real (section 4 of arXiv 2206.11893)."""
    discretization: Literal["zoh", "bilinear"] = "zoh"
    """Rule that samples the system; see `memjax.ops.discretize`."""
    dt_min: float = 1e-3
    """Shortest step at the beginning, Delta_min; steps are drawn log-uniformly, one a channel."""
    dt_max: float = 1e-1
    """Longest step at the beginning, Delta_max."""
    reparameterization: Reparameterization = "exp"
    """How a weight becomes Re A: "exp" is S4D's, the others StableSSM's (arXiv 2311.14495); "direct" is unconstrained,
    from the negative real parts of `init`. "best" reaches rates up to 2, too few for init "real" beyond N = 2."""
    mode: Mode | None = None
    """Form of the map over more than one token: "convolution" (FFT; neither packed documents nor exact causality),
    "chunked", "recurrence"; None takes "chunked", which was the fastest of them (90, 157 and 1315 ms of gradient at
    B = 16, T = 784, D = 64, N = 64 on two CPU cores)."""

    def make(self, width: int, *, rngs: nnx.Rngs) -> "S4D":
        return S4D(self, width, rngs=rngs)


class S4D(nnx.Module):
    """The mixer; see the head of this file for its equations."""

    def __init__(self, config: S4DConfig, width: int, *, rngs: nnx.Rngs):
        if config.state_size < 1 or (config.state_size % 2 and config.init != "real"):
            raise ValueError(f"S4D: state_size={config.state_size} must be positive, and even for init={config.init!r}")
        self.config = config
        a = np.asarray(hippo.diagonal(config.init, config.state_size))
        self.complex = np.iscomplexobj(a)
        rows = lambda x: jnp.tile(jnp.asarray(x, jnp.float32)[None], (width, *[1] * x.ndim))
        self.A_real = nnx.Param(rows(stable_rate.weight_of_real_part(np.real(a), config.reparameterization)))
        self.A_imag = nnx.Param(rows(np.imag(a))) if self.complex else None
        b = hippo.diagonal_plus_low_rank("legs", config.state_size).b if config.init == "legs" else np.ones_like(a)
        self.B_pair = nnx.Param(rows(_pair(b)))
        shape = self.B_pair.shape
        # complex normal: the two parts share a variance of 1
        self.C_pair = nnx.Param(jax.random.normal(rngs.params(), shape, jnp.float32) * shape[-1] ** -0.5)
        steps = init_log_step(rngs.params(), width, shortest=config.dt_min, longest=config.dt_max)
        self.log_dt = nnx.Param(steps)
        self.skip = nnx.Param(jax.random.normal(rngs.params(), (width,), jnp.float32))
        self.output = Linear(width, 2 * width, rngs=rngs)

    def init_state(self, batch_size: int) -> S4DState:
        return S4DState(jnp.zeros((batch_size, *self.B_pair.shape), jnp.float32))

    def flops_per_token(self, time: int) -> float:
        """Multiply-adds counted twice, per token, of the recurrence: decay, write and read each mode."""
        modes = self.B_pair.shape[0] * self.B_pair.shape[1]
        return (16.0 if self.complex else 6.0) * modes

    def system(self):
        """Abar, Bbar and C of every channel, [D, M] each, complex64 (float32 for init "real")."""
        a = stable_rate.real_part(self.A_real[...], self.config.reparameterization)
        if self.A_imag is not None:
            a = jax.lax.complex(a, self.A_imag[...])
        decay, gain = getattr(discretize, self.config.discretization)(a, jnp.exp(self.log_dt[...])[:, None])
        return decay, gain * join_pair(self.B_pair[...]), join_pair(self.C_pair[...])

    def __call__(self, x, state=None, *, segment_ids=None, key=None) -> MixerOutput:
        state = self.init_state(x.shape[0]) if state is None else state
        decay, write, read = self.system()
        y, memory = diagonal_ssm(
            x,
            decay,
            write,
            2 * read if self.complex else read,
            initial_state=join_pair(state.memory),
            segment_ids=segment_ids,
            mode=self.config.mode,
        )
        y = jax.nn.gelu(y + self.skip[...][None, None] * x).astype(x.dtype)
        return MixerOutput(jax.nn.glu(self.output(y)), S4DState(split_pair(memory)), {})


def _pair(x):
    return np.stack([np.real(x), np.imag(x)], axis=-1) if np.iscomplexobj(x) else x[..., None]
