"""Short causal convolution as a layer: the local mixing step of gated delta networks, Mamba and Griffin."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from memjax.ops import short_conv


class ShortConv(nnx.Module):
    """activation(conv(x) + bias) a channel, its past handed in and out; kernel [W, channels], bias [channels] or none.

    Both are drawn from the uniform range of a depthwise convolution's fan-in, +- W ** -0.5.
    """

    def __init__(
        self,
        taps: int,
        channels: int,
        *,
        rngs: nnx.Rngs,
        bias: bool = False,
        activation: Literal["silu"] | None = "silu",
    ):
        bound = taps**-0.5
        draw = lambda *shape: jax.random.uniform(rngs.params(), shape, jnp.float32, -bound, bound)
        self.activation = activation
        self.kernel = nnx.Param(draw(taps, channels))
        self.bias = nnx.Param(draw(channels)) if bias else None

    def init_state(self, batch_size: int) -> Float[Array, "B P D"]:
        taps, channels = self.kernel.shape
        return jnp.zeros((batch_size, taps - 1, channels), jnp.float32)

    def __call__(
        self, x: Float[Array, "B T D"], state: Float[Array, "B P D"], segment_ids: Int[Array, "B T"] | None
    ) -> tuple[Float[Array, "B T D"], Float[Array, "B P D"]]:
        """Returns y in the dtype of x, and the last P = W-1 inputs (see `memjax.ops.short_conv`)."""
        bias = None if self.bias is None else self.bias[...]
        y, state = short_conv(x, self.kernel[...], bias, initial_state=state, segment_ids=segment_ids)
        return (jax.nn.silu(y) if self.activation == "silu" else y), state
