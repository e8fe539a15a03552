"""Gated MLP (SwiGLU; Shazeer, arXiv 2002.05202): down(silu(gate(x)) * up(x)), under the mixer contract."""

import dataclasses

import jax
from flax import nnx

from memjax.layers.linear import Linear
from memjax.types import MixerConfig, MixerOutput


@dataclasses.dataclass(frozen=True)
class GatedMLPConfig(MixerConfig):
    """Configuration of `GatedMLP`."""

    hidden: int | None = None
    """Hidden channels; None takes 8/3 of the width, rounded up to a multiple of 16."""

    def make(self, width: int, *, rngs: nnx.Rngs) -> "GatedMLP":
        hidden = self.hidden if self.hidden is not None else -(-8 * width // 3 // 16) * 16
        return GatedMLP(width, hidden, rngs=rngs)


class GatedMLP(nnx.Module):
    """Acts on each token alone, so its state is empty and segments do not matter."""

    def __init__(self, width: int, hidden: int, *, rngs: nnx.Rngs):
        self.gate = Linear(width, hidden, rngs=rngs)
        self.up = Linear(width, hidden, rngs=rngs)
        self.down = Linear(hidden, width, rngs=rngs)

    def init_state(self, batch_size: int) -> tuple[()]:
        return ()

    def __call__(self, x, state=None, *, segment_ids=None, key=None) -> MixerOutput:
        return MixerOutput(self.down(jax.nn.silu(self.gate(x)) * self.up(x)), (), {})
