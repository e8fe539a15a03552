"""The one backbone: embedding, pre-norm residual blocks of (mixer, MLP) repeated, norm, head.

    h = embed[tokens];   for each block: h = h + mixer(norm(h)), h = h + mlp(norm(h));   logits = norm(h) @ head

A hybrid is a tuple of different blocks; the tuple is repeated, and the repetitions are stacked on a leading axis R of
every parameter and run under `jax.lax.scan`, so that compile time does not grow with depth. `Backbone` is what lies
between embedding and head; `LM` embeds tokens, `memjax.models.sequence` real-valued rows.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from memjax.layers import GatedMLPConfig, RMSNorm
from memjax.layers.linear import Linear, rows_times
from memjax.mixers import GatedDeltaNetConfig
from memjax.types import Aux, MixerConfig, State

Remat = Literal["none", "dots", "full"]


@dataclasses.dataclass(frozen=True)
class BlockConfig:
    """One residual block: a mixer, then an MLP (or a memory layer) or nothing."""

    mixer: MixerConfig = GatedDeltaNetConfig()
    """Configuration of the mixer over time."""
    mlp: MixerConfig | None = GatedMLPConfig()
    """Configuration of what fills the MLP slot; None leaves it out."""


@dataclasses.dataclass(frozen=True)
class BackboneConfig:
    """What every model's configuration says about the blocks between its embedding and its head."""

    width: int = 64
    """Channels of the residual stream, D."""
    blocks: tuple[BlockConfig, ...] = (BlockConfig(),)
    """The pattern of blocks; a hybrid lists several."""
    repeats: int = 2
    """How often the pattern is repeated; depth = repeats * len(blocks)."""
    norm_epsilon: float = 1e-6
    """Epsilon of the RMSNorms."""
    remat: Remat = "none"
    """What the backward pass recomputes: "none", "dots" (all but matrix products), "full" (everything in a block)."""


@dataclasses.dataclass(frozen=True)
class LMConfig(BackboneConfig):
    """Configuration of `LM`."""

    vocab_size: int = 257
    """Rows of the embedding, one a token id."""
    tie_embeddings: bool = True
    """Use the embedding as the output matrix."""
    embedding_std: float = 0.02
    """Standard deviation of the embedding's initial values."""


class LMOutput(NamedTuple):
    """Attributes:
    logits: [B, T, vocab] float32.
    state: per block of the pattern, (mixer state, MLP state), each leaf with a leading axis R.
    aux: scalars of all layers, summed for `loss/...`, averaged for `metric/...`.
    """

    logits: Float[Array, "B T vocab"]
    state: State
    aux: Aux


class HiddenOutput(NamedTuple):
    """As `LMOutput`, with the normalised residual stream [B, T, D] in place of the logits."""

    hidden: Float[Array, "B T D"]
    state: State
    aux: Aux


class Embedding(nnx.Module):
    """A table [vocab, D]."""

    def __init__(self, rows: int, width: int, *, std: float, rngs: nnx.Rngs):
        self.table = nnx.Param(std * jax.random.normal(rngs.params(), (rows, width), jnp.float32))


class Block(nnx.Module):
    """h + mixer(norm(h)), then h + mlp(norm(h))."""

    def __init__(self, config: BlockConfig, width: int, *, epsilon: float, rngs: nnx.Rngs):
        self.mixer_norm = RMSNorm(width, epsilon=epsilon)
        self.mixer = config.mixer.make(width, rngs=rngs)
        self.mlp_norm = None if config.mlp is None else RMSNorm(width, epsilon=epsilon)
        self.mlp = None if config.mlp is None else config.mlp.make(width, rngs=rngs)

    def init_state(self, batch_size: int) -> State:
        return self.mixer.init_state(batch_size), () if self.mlp is None else self.mlp.init_state(batch_size)

    def __call__(self, x, state, *, segment_ids, key):
        keys = (None, None) if key is None else jax.random.split(key)
        before = (None, None) if state is None else state
        mixed, mixer_state, aux = self.mixer(self.mixer_norm(x), before[0], segment_ids=segment_ids, key=keys[0])
        x, mlp_state = x + mixed, ()
        if self.mlp is not None and self.mlp_norm is not None:
            filled, mlp_state, more = self.mlp(self.mlp_norm(x), before[1], segment_ids=segment_ids, key=keys[1])
            x, aux = x + filled, _merge(aux, more)
        return x, (mixer_state, mlp_state), aux


class Backbone(nnx.Module):
    """The blocks and the last norm. Parameters come from `rngs`; the stacked axis R of each block is its repeats."""

    def __init__(self, config: BackboneConfig, *, rngs: nnx.Rngs):
        if config.width < 1 or config.repeats < 1 or not config.blocks:
            raise ValueError(f"{type(self).__name__}: width, repeats and the number of blocks must be at least 1")
        self.config = config
        self.blocks = nnx.List([self._stack(block, rngs) for block in config.blocks])
        self.final_norm = RMSNorm(config.width, epsilon=config.norm_epsilon)

    def _stack(self, block: BlockConfig, rngs: nnx.Rngs) -> Block:
        build = lambda key: Block(block, self.config.width, epsilon=self.config.norm_epsilon, rngs=nnx.Rngs(key))
        return jax.vmap(build)(jax.random.split(rngs.params(), self.config.repeats))

    def init_state(self, batch_size: int) -> State:
        """The state before the first token: for each block of the pattern, each leaf with a leading axis R."""
        repeat = lambda leaf: jnp.broadcast_to(leaf, (self.config.repeats, *leaf.shape))
        return tuple(jax.tree.map(repeat, self._layer(block, 0).init_state(batch_size)) for block in self.blocks)

    def state_bytes(self, batch_size: int = 1) -> int:
        """Bytes of the whole memory state for `batch_size` rows."""
        shapes = jax.eval_shape(lambda: self.init_state(batch_size))
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))

    def stream(
        self,
        x: Float[Array, "B T D"],
        state: State | None = None,
        *,
        segment_ids: Int[Array, "B T"] | None = None,
        key: jax.Array | None = None,
    ) -> HiddenOutput:
        """The residual stream [B, T, D] after all blocks and the norm, from the embedded one, in the latter's dtype."""

        def group(x, layers):
            blocks, states, key = layers
            keys = [None] * len(blocks) if key is None else jax.random.split(key, len(blocks))
            new, aux = [], {}
            states = (
                [None] * len(blocks) if states is None else states
            )  # no state: mixers need not look at an empty one
            for block, block_state, block_key in zip(blocks, states, keys, strict=True):
                x, block_state, more = block(x, block_state, segment_ids=segment_ids, key=block_key)
                new.append(block_state)
                aux = _merge(aux, more)
            return x, (tuple(new), aux)

        keys = None if key is None else jax.random.split(key, self.config.repeats)
        x, (state, aux) = jax.lax.scan(_remat(group, self.config.remat), x, (tuple(self.blocks), state, keys))
        aux = {name: value.sum() if name.startswith("loss/") else value.mean() for name, value in aux.items()}
        return HiddenOutput(self.final_norm(x), state, aux)

    def flops_per_token(self, length: int) -> float:
        """Floating-point operations of the forward pass per token in rows of `length`, by formula: twice the entries
        of every matrix a token meets (head included, embedding look-up not), plus each mixer's own count."""
        matrices = [leaf.size for leaf in jax.tree.leaves(nnx.state(self.blocks)) if leaf.ndim == 3]
        counts = (getattr(self._layer(block, 0).mixer, "flops_per_token", None) for block in self.blocks)
        own = sum(count(length) for count in counts if count is not None)
        return 2.0 * (sum(matrices) + self._outer_entries()) + self.config.repeats * own

    def _outer_entries(self) -> int:
        """Entries of the matrices outside the blocks that a token is multiplied with."""
        raise NotImplementedError

    def layer(self, number: int) -> Block:
        """The block that runs as layer `number`, counted from 0, taken out of the stack of its repeats."""
        return self._layer(self.blocks[number % len(self.blocks)], number // len(self.blocks))

    @staticmethod
    def _layer(block: Block, index: int) -> Block:
        return jax.tree.map(lambda leaf: leaf[index], block)


class LM(Backbone):
    """A language model over token ids."""

    config: LMConfig

    def __init__(self, config: LMConfig, *, rngs: nnx.Rngs):
        if config.vocab_size < 1:
            raise ValueError(f"LM: vocab_size must be at least 1, not {config.vocab_size}")
        self.embed = Embedding(config.vocab_size, config.width, std=config.embedding_std, rngs=rngs)
        super().__init__(config, rngs=rngs)
        self.head = None if config.tie_embeddings else Linear(config.width, config.vocab_size, rngs=rngs)

    def hidden(
        self,
        tokens: Int[Array, "B T"],
        state: State | None = None,
        *,
        segment_ids: Int[Array, "B T"] | None = None,
        key: jax.Array | None = None,
        dtype: Any = jnp.float32,
    ) -> HiddenOutput:
        """The normalised residual stream [B, T, D] in `dtype`, which is the dtype of all matrix products."""
        x = self.embed.table[...].astype(dtype)[tokens]
        return self.stream(x, state, segment_ids=segment_ids, key=key)

    def logits(self, hidden: Float[Array, "... D"]) -> Float[Array, "... vocab"]:
        """Logits in float32 of hidden states from `hidden`."""
        matrix = self.embed.table[...].T if self.head is None else self.head.kernel[...]
        return rows_times(hidden, matrix.astype(hidden.dtype), preferred_element_type=jnp.float32)

    def __call__(
        self,
        tokens: Int[Array, "B T"],
        state: State | None = None,
        *,
        segment_ids: Int[Array, "B T"] | None = None,
        key: jax.Array | None = None,
    ) -> LMOutput:
        hidden, state, aux = self.hidden(tokens, state, segment_ids=segment_ids, key=key)
        return LMOutput(self.logits(hidden), state, aux)

    def _outer_entries(self) -> int:
        return self.config.vocab_size * self.config.width


def _merge(left: Aux, right: Aux) -> Aux:
    """Adds the losses of two parts; metrics of the same name are averaged pairwise."""
    merged = dict(left)
    for name, value in right.items():
        both = merged[name] + value if name in merged else value
        merged[name] = both / 2 if name in merged and name.startswith("metric/") else both
    return merged


def _remat(function: Callable, policy: Remat) -> Callable:
    if policy == "none":
        return function
    keep = None if policy == "full" else jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    return jax.checkpoint(function, prevent_cse=False, policy=keep)
