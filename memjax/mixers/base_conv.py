"""BaseConv (Arora, Eyuboglu, Timalsina et al., Zoology, arXiv 2312.04927, section 4): a gated convolution.

    y = (u W + b_1) * (h conv u + b_2)          h conv u: a causal filter a channel

    paper      here                    shape
    u          x                       [B, T, D]
    W, b_1     gate.kernel, gate_bias  [D, D], [D]
    h, b_2     conv.kernel, conv.bias  [W, D], [D]

The simplest gated convolution: any other can be written with such layers. Alone it recalls as a convolution does, from
where its filter reaches. With a short filter it is the layer that recall experiments put before every memory that they
compare (Arora et al., Based, arXiv 2402.18668), so that each of them sees a token beside its neighbours and none is
judged by a convolution of its own.

Where we differ: the filter is short (the paper's spans the sequence), so that the state, its last inputs, is as small
in decoding as in training.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from memjax.layers import Linear, ShortConv
from memjax.types import MixerConfig, MixerOutput


class BaseConvState(NamedTuple):
    """Attributes:
    conv: [B, W - 1, D] float32, the last inputs.
    """

    conv: Float[Array, "B P D"]


@dataclasses.dataclass(frozen=True)
class BaseConvConfig(MixerConfig):
    """Configuration of `BaseConv`."""

    conv_width: int = 3
    """Taps W of the filter h, in tokens, the current one among them."""

    def make(self, width: int, *, rngs: nnx.Rngs) -> "BaseConv":
        return BaseConv(self, width, rngs=rngs)


class BaseConv(nnx.Module):
    """The mixer; see the head of this file for its equation."""

    def __init__(self, config: BaseConvConfig, width: int, *, rngs: nnx.Rngs):
        if config.conv_width < 1:
            raise ValueError(f"BaseConv: conv_width={config.conv_width} must be positive")
        self.config = config
        self.gate = Linear(width, width, rngs=rngs)
        self.gate_bias = nnx.Param(jnp.zeros((width,), jnp.float32))
        self.conv = ShortConv(config.conv_width, width, rngs=rngs, bias=True, activation=None)

    @property
    def reach(self) -> int:
        """Tokens that an output depends on, its own among them."""
        return self.config.conv_width

    def init_state(self, batch_size: int) -> BaseConvState:
        return BaseConvState(self.conv.init_state(batch_size))

    def flops_per_token(self, time: int) -> float:
        """Multiply-adds counted twice, per token, beyond the projection: filter and gate."""
        return (2.0 * self.config.conv_width + 1.0) * self.gate_bias.shape[0]

    def __call__(self, x, state=None, *, segment_ids=None, key=None) -> MixerOutput:
        state = self.init_state(x.shape[0]) if state is None else state
        filtered, conv = self.conv(x, state.conv, segment_ids)
        gate = self.gate(x) + self.gate_bias[...].astype(x.dtype)[None, None]
        return MixerOutput(gate * filtered, BaseConvState(conv), {})
