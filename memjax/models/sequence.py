"""Real-valued sequences on the same backbone: a linear embedding, the blocks, a linear head.

    h = W x_t + b;   the blocks and the norm of `memjax.models.lm`;   y = head(h)

For regression there is an output for each token. For classification `pool` makes one hidden state of a row's, their
mean (as S4, arXiv 2111.00396, does) or the last one, and the outputs are the logits of the classes. The embedding has a
bias, so that a row that begins with zeros (the black rim of a picture) does not begin with a stream of zeros, where the
blocks' norms are steepest.
"""

import dataclasses
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from memjax.layers.linear import Linear, rows_times
from memjax.models.lm import Backbone, BackboneConfig, HiddenOutput, Taps
from memjax.types import Aux, State

Pool = Literal["mean", "last"]


@dataclasses.dataclass(frozen=True)
class SequenceConfig(BackboneConfig):
    """Configuration of `SequenceModel`."""

    vocab_size: ClassVar[int] = 0  # reads no tokens: whatever asks for a vocabulary finds it too small

    features: int = 1
    """Numbers of a token, F."""
    outputs: int = 1
    """Numbers to predict for a token, or classes of a row."""
    pool: Pool | None = None
    """How a row becomes one prediction: the `mean` or the `last` of its hidden states; None predicts at every token."""


class SequenceOutput(NamedTuple):
    """Attributes:
    outputs: float32, [B, T, O], or [B, 1, O] with pooling.
    state: as `memjax.models.LMOutput`.
    aux: as `memjax.models.LMOutput`.
    """

    outputs: Float[Array, "B S O"]
    state: State
    aux: Aux


class Embedding(nnx.Module):
    """W x + b; both drawn with the standard deviation F ** -0.5."""

    def __init__(self, features: int, width: int, *, rngs: nnx.Rngs):
        self.linear = Linear(features, width, rngs=rngs)
        self.bias = nnx.Param(features**-0.5 * jax.random.normal(rngs.params(), (width,), jnp.float32))

    def __call__(self, x: Float[Array, "... F"]) -> Float[Array, "... D"]:
        bias = self.bias[...].astype(x.dtype)
        return self.linear(x) + bias.reshape((1,) * (x.ndim - 1) + bias.shape)


class SequenceModel(Backbone):
    """A model of real-valued rows; see the head of this file."""

    config: SequenceConfig

    def __init__(self, config: SequenceConfig, *, rngs: nnx.Rngs):
        if config.features < 1 or config.outputs < 1:
            raise ValueError("SequenceModel: features and outputs must be at least 1")
        self.embed = Embedding(config.features, config.width, rngs=rngs)
        super().__init__(config, rngs=rngs)
        self.head = Linear(config.width, config.outputs, rngs=rngs)

    def hidden(
        self,
        inputs: Float[Array, "B T F"],
        state: State | None = None,
        *,
        segment_ids: Int[Array, "B T"] | None = None,
        key: jax.Array | None = None,
        taps: Taps | None = None,
        dtype: Any = jnp.float32,
    ) -> HiddenOutput:
        """What the head reads, in `dtype`: [B, T, D], or [B, 1, D] with pooling (over this call's tokens)."""
        out = self.stream(self.embed(inputs.astype(dtype)), state, segment_ids=segment_ids, key=key, taps=taps)
        return out._replace(hidden=pooled(out.hidden, self.config.pool))

    def logits(self, hidden: Float[Array, "... D"]) -> Float[Array, "... O"]:
        """The outputs in float32, logits or predictions, of what `hidden` gives."""
        matrix = self.head.kernel[...].astype(hidden.dtype)
        return rows_times(hidden, matrix, preferred_element_type=jnp.float32)

    def __call__(
        self,
        inputs: Float[Array, "B T F"],
        state: State | None = None,
        *,
        segment_ids: Int[Array, "B T"] | None = None,
        key: jax.Array | None = None,
    ) -> SequenceOutput:
        hidden, state, aux = self.hidden(inputs, state, segment_ids=segment_ids, key=key)
        return SequenceOutput(self.logits(hidden), state, aux)

    def _outer_entries(self) -> int:
        return self.config.width * (self.config.features + self.config.outputs)


def pooled(hidden: Float[Array, "B T D"], pool: Pool | None) -> Float[Array, "B S D"]:
    """Hidden states made one per row, S = 1; as they are where `pool` is None."""
    if pool == "mean":
        return jnp.mean(hidden, axis=1, keepdims=True, dtype=jnp.float32).astype(hidden.dtype)
    return hidden[:, -1:] if pool == "last" else hidden
