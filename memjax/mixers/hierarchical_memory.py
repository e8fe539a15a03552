"""Hierarchical memory ("Pretraining with hierarchical memories", Pouransari et al., 2025, arXiv 2510.02375).

A bank of small feed-forward blocks, the nodes of a tree with b children each. A context walks down the tree and
fetches the blocks of the nodes on its path, one a level, which work side by side as one feed-forward layer:

    node_0 = root;   p_l = softmax(<norm(W_q x_s), K[node_{l-1}]>) over its b children;   node_l = the likeliest child
    y_t = sum_l p_l(node_l) U_l^T gelu(D_l x_t)        D_l, U_l: the block of node_l, F hidden units

    paper                here              shape
    cluster centroids    keys              [inner nodes, b, K]
    memory blocks        table.down, up    [nodes F, D], the F rows of a block one after the other

s is the token that begins the context: every `context` tokens of a document, 1 by default, where each token fetches
for itself and the state is empty. Where we differ: the paper's tree is a clustering of documents by a frozen text
encoder, made beforehand; here it is learned with the rest, so a block counts with the probability p of its choice,
through which the tree gets its gradient. A row is a hidden unit, so that what trains, shards and measures the tables of
other memory layers does so here.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from memjax.layers import Linear, MemoryTable, RMSNorm, TableReader, usage_metrics
from memjax.ops import segments
from memjax.types import MixerConfig, MixerOutput


class HierarchicalMemoryState(NamedTuple):
    """Attributes:
    count: [B] int32 tokens of the document so far.
    path: [B, L] int32 child that the context took at each level.
    gate: [B, L] float32 probability of that choice.
    """

    count: Int[Array, "B"]
    path: Int[Array, "B L"]
    gate: Float[Array, "B L"]


@dataclasses.dataclass(frozen=True)
class HierarchicalMemoryConfig(MixerConfig):
    """Configuration of `HierarchicalMemory`; the paper's tree has branching=16, levels=4."""

    branching: int = 16
    """Children of a node, b."""
    levels: int = 2
    """Levels of the tree below its root, L."""
    hidden: int = 16
    """Hidden units of a block, F."""
    key_dim: int | None = None
    """Channels of the query and of the nodes' keys, K; None takes half of the width."""
    context: int = 1
    """Tokens for which blocks are fetched once, counted from the start of a document; more than 1 gives it a state."""
    share: str | None = None
    """Name of a table at the model's root, read by all layers that give this name; None: a table of its own."""
    usage: bool = True
    """Report which blocks are used, per level, as metrics."""

    def make(self, width: int, *, rngs: nnx.Rngs) -> "HierarchicalMemory":
        return HierarchicalMemory(self, width, rngs=rngs)

    def make_table(self, width: int, *, rngs: nnx.Rngs) -> MemoryTable:
        """The blocks of layers of `width` channels, level after level: down and up [nodes F, D]. Standard deviations
        D ** -0.5 and b (F L) ** -0.5, by which a block counts as one of probability 1 at first, when p is 1 / b."""
        rows = sum(self.branching**level for level in range(1, self.levels + 1)) * self.hidden
        up = self.branching * (self.hidden * self.levels) ** -0.5
        return MemoryTable(rows, {"down": (width, width**-0.5), "up": (width, up)}, rngs=rngs)


class HierarchicalMemory(nnx.Module):
    """The layer; see the head of this file for its equations."""

    def __init__(self, config: HierarchicalMemoryConfig, width: int, *, rngs: nnx.Rngs):
        if config.branching < 2 or config.levels < 1 or config.hidden < 1 or config.context < 1:
            raise ValueError(f"HierarchicalMemory: branching must be at least 2, other sizes 1: {config}")
        self.config, self.width = config, width
        size = config.key_dim or max(1, width // 2)
        inner = sum(config.branching**level for level in range(config.levels))
        self.query = Linear(width, size, rngs=rngs)
        self.query_norm = RMSNorm(size)
        draw = jax.random.normal(rngs.params(), (inner, config.branching, size), jnp.float32)
        self.keys = nnx.Param(size**-0.5 * draw)
        self.table = None if config.share else config.make_table(width, rngs=rngs)

    def init_state(self, batch_size: int) -> HierarchicalMemoryState | tuple[()]:
        if self.config.context == 1:
            return ()
        count, shape = jnp.zeros((batch_size,), jnp.int32), (batch_size, self.config.levels)
        return HierarchicalMemoryState(count, jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.float32))

    def tap_shapes(self) -> dict[str, tuple[int, ...]]:
        """{array of the table: shape, for each token, of what is read of it}."""
        return {"down": (self.config.levels * self.config.hidden,), "up": (self.width,)}

    def __call__(self, x, state=None, *, segment_ids=None, key=None, table=None, taps=None) -> MixerOutput:
        """`table` (its arrays `down` and `up`) and `taps` as `memjax.layers.TableReader` takes them."""
        config, reader = self.config, TableReader(self.table, table, taps)
        state = self.init_state(x.shape[0]) if state is None else state
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))  # a rounded query takes other paths
        path, gate = self._walk(self.query_norm(self.query(wide)))
        if config.context > 1:
            path, gate, state = _hold(path, gate, state, config.context, segment_ids)
        blocks, firsts = self._blocks(path)
        units = jnp.arange(config.hidden).reshape(*[1] * x.ndim, -1)
        rows = ((blocks + firsts)[..., None] * config.hidden + units).reshape(*x.shape[:-1], -1)
        hidden = jax.nn.gelu(reader.dots("down", rows, x))
        y = reader.bag("up", rows, hidden * jnp.repeat(gate, config.hidden, axis=-1))
        aux = self._usage(blocks, gate, segment_ids) if config.usage else {}
        return MixerOutput(y.astype(x.dtype), state, aux | reader.aux)

    def _walk(self, query) -> tuple[Int[Array, "B T L"], Float[Array, "B T L"]]:
        """The child taken at each level and its probability, for each token."""
        config, keys = self.config, self.keys[...]
        node, first, path, gates = jnp.zeros(query.shape[:-1], jnp.int32), 0, [], []
        for level in range(config.levels):
            scores = jnp.einsum("...k,...bk->...b", query.astype(keys.dtype), keys[first + node], precision="highest")
            chances = jax.nn.softmax(scores, axis=-1)
            child = jnp.argmax(chances, axis=-1).astype(jnp.int32)
            path.append(child)
            gates.append(jnp.take_along_axis(chances, child[..., None], axis=-1)[..., 0])
            node, first = node * config.branching + child, first + config.branching**level
        return jnp.stack(path, axis=-1), jnp.stack(gates, axis=-1)

    def _blocks(self, path: Int[Array, "B T L"]):
        """The number of each level's block among those of its level [B, T, L], and of the first of them [1, 1, L]."""
        branching, levels = self.config.branching, self.config.levels
        numbers = [jnp.zeros_like(path[..., 0])]
        for level in range(levels):
            numbers.append(numbers[-1] * branching + path[..., level])
        firsts = [sum(branching**below for below in range(1, level + 1)) for level in range(levels)]
        return jnp.stack(numbers[1:], axis=-1), jnp.asarray(firsts, jnp.int32)[None, None]

    def _usage(self, blocks, gate, segment_ids):
        aux = {}
        for level in range(self.config.levels):
            part = lambda values, level=level: values[..., level, None, None]
            count = self.config.branching ** (level + 1)
            aux |= usage_metrics(part(blocks), part(gate), count, segment_ids, names=[f"level{level}"])
        return aux

    def flops_per_token(self, length: int) -> float:
        """Of the walk and the blocks."""
        config, size = self.config, self.keys.shape[-1]
        return config.levels * (2.0 * config.branching * size + 4.0 * config.hidden * self.width)


def _hold(path, gate, state, context, segment_ids):
    """Path and gate of the token that began each token's context, and the state after the last token."""
    batch, time = path.shape[:2]
    docs = segments.one_document(batch, time) if segment_ids is None else segments.documents(segment_ids)
    position, count = segments.count_on(docs, state.count)
    starts = docs.valid & (position % context == 0)
    # Place 0 is the state, place t + 1 is token t; padding and tokens in between look back to the last start.
    last = jax.lax.cummax(jnp.where(starts, jnp.arange(1, time + 1)[None], 0), axis=1)[..., None]
    look = lambda kept, new: jnp.take_along_axis(jnp.concatenate([kept[:, None], new], axis=1), last, axis=1)
    path, gate = look(state.path, path), look(state.gate, gate)
    return path, gate, HierarchicalMemoryState(count, path[:, -1], gate[:, -1])
