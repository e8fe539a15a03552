"""S5: one state-space model of many inputs and outputs (Smith, Warrington and Linderman, 2023, arXiv 2208.04933).

All channels write to and read from the same P states, which are diagonal in complex numbers and run by a scan:

    s_t = Abar s_{t-1} + Bbar u_t         zoh: Abar = exp(Delta Lambda), Bbar = (Abar - 1) / Lambda B; or bilinear
    y_t = 2 Re(C s_t) + D u_t             one state of each conjugate pair; Delta and Lambda one a state
    out = z sigmoid(W z),  z = gelu(y)

Lambda begins as the eigenvalues of J copies of the normal part of HiPPO-LegS, V Lambda V^H = S of size P/J: with B and
C drawn as real matrices, B~ = V^H B and C~ = C V, block by block.

    paper        here                    shape
    P            state_size              real states, P/2 complex ones kept
    J            blocks                  copies of the HiPPO matrix
    Lambda       A_real, A_imag          [P/2], Lambda = -exp(A_real) + i A_imag
    B~, C~       input, readout          [D, P], [P, D]: real parts first, then imaginary ones (of C~: negated)
    log Delta    log_dt                  [P/2]
    D            skip                    [D]
    x            state.memory            [B, P/2, 2]

Where we differ: the real part is -exp(A_real) and so cannot become positive (the paper trains it as it is, its code may
clip it at -1e-4). A state may come in, and documents reset it.
"""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from memjax.layers import Linear, init_log_step, join_pair, split_pair
from memjax.ops import discretize, hippo, linear_scan
from memjax.ops.linear_scan import Implementation
from memjax.types import MixerConfig, MixerOutput


class S5State(NamedTuple):
    """Attributes:
    memory: [B, P/2, 2] float32, real and imaginary part of the states.
    """

    memory: Float[Array, "B P/2 2"]


@dataclasses.dataclass(frozen=True)
class S5Config(MixerConfig):
    """Configuration of `S5`."""

    state_size: int = 256
    """Real states, P; a multiple of twice `blocks`. The paper takes 16 to 384, by task."""
    blocks: int = 8
    """Copies of the HiPPO matrix on the diagonal at the beginning, J."""
    discretization: Literal["zoh", "bilinear"] = "zoh"
    """Rule that samples the system; see `memjax.ops.discretize`."""
    dt_min: float = 1e-3
    """Shortest step at the beginning; steps are drawn log-uniformly, one a state."""
    dt_max: float = 1e-1
    """Longest step at the beginning."""
    implementation: Implementation | None = None
    """Implementation of `memjax.ops.linear_scan`; None chooses by platform."""

    def make(self, width: int, *, rngs: nnx.Rngs) -> "S5":
        return S5(self, width, rngs=rngs)


class S5(nnx.Module):
    """The mixer; see the head of this file for its equations."""

    def __init__(self, config: S5Config, width: int, *, rngs: nnx.Rngs):
        if config.blocks < 1 or config.state_size < 1 or config.state_size % (2 * config.blocks):
            raise ValueError(
                f"S5: state_size={config.state_size} is no positive multiple of twice blocks={config.blocks}"
            )
        self.config = config
        size = config.state_size
        block = hippo.diagonal_plus_low_rank("legs", size // config.blocks)
        eigenvalues = np.tile(block.eigenvalues, config.blocks)
        self.A_real = nnx.Param(jnp.asarray(np.log(-np.real(eigenvalues)), jnp.float32))
        self.A_imag = nnx.Param(jnp.asarray(np.imag(eigenvalues), jnp.float32))
        steps = init_log_step(rngs.params(), size // 2, shortest=config.dt_min, longest=config.dt_max)
        self.log_dt = nnx.Param(steps)
        self.input = Linear(width, size, rngs=rngs)
        self.readout = Linear(size, width, rngs=rngs)
        basis = np.kron(np.eye(config.blocks), block.basis)  # V, [P, P/2]
        parts = jnp.asarray(np.concatenate([basis.real, -basis.imag], axis=1), jnp.float32)
        self.input.kernel[...] = jnp.matmul(self.input.kernel[...], parts, precision="highest")
        self.readout.kernel[...] = jnp.matmul(parts.T, self.readout.kernel[...], precision="highest")
        self.skip = nnx.Param(jax.random.normal(rngs.params(), (width,), jnp.float32))
        self.output = Linear(width, width, rngs=rngs)

    def init_state(self, batch_size: int) -> S5State:
        return S5State(jnp.zeros((batch_size, self.log_dt.shape[0], 2), jnp.float32))

    def flops_per_token(self, time: int) -> float:
        """Multiply-adds counted twice, per token, of the recurrence itself; B and C are projections."""
        return 14.0 * self.log_dt.shape[0]

    def system(self):
        """Abar and the gain of the inputs, [P/2] complex64 each."""
        a = jax.lax.complex(-jnp.exp(self.A_real[...]), self.A_imag[...])
        return getattr(discretize, self.config.discretization)(a, jnp.exp(self.log_dt[...]))

    def __call__(self, x, state=None, *, segment_ids=None, key=None) -> MixerOutput:
        state = self.init_state(x.shape[0]) if state is None else state
        decay, gain = self.system()
        real, imaginary = jnp.split(self.input(x).astype(jnp.float32), 2, axis=-1)
        s, last = linear_scan(
            decay,
            gain[None, None] * jax.lax.complex(real, imaginary),
            initial_state=join_pair(state.memory),
            segment_ids=segment_ids,
            implementation=self.config.implementation,
        )
        y = 2 * self.readout(jnp.concatenate([s.real, s.imag], axis=-1).astype(x.dtype))
        z = jax.nn.gelu(y + self.skip[...][None, None] * x).astype(x.dtype)
        return MixerOutput(z * jax.nn.sigmoid(self.output(z)), S5State(split_pair(last)), {})
