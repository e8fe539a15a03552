"""The one backbone: embedding, pre-norm residual blocks of (mixer, MLP) repeated, norm, head.

    h = embed[tokens];   for each block: h = h + mixer(norm(h)), h = h + mlp(norm(h));   logits = norm(h) @ head

A hybrid is a tuple of different blocks; the tuple is repeated, and the repetitions are stacked on a leading axis R of
every parameter and run under `jax.lax.scan`, so that compile time does not grow with depth. `Backbone` is what lies
between embedding and head; `LM` embeds tokens, `memjax.models.sequence` real-valued rows.

A memory layer fills the MLP slot or stands beside the MLP. Tables that several layers share lie in `tables` at the root
and are handed down to each of them.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from memjax.layers import READS, GatedMLPConfig, RMSNorm, StackedTable
from memjax.layers.linear import Linear, rows_times
from memjax.mixers import GatedDeltaNetConfig
from memjax.models.tables import SLOTS, in_table, lift_tables, shared_tables
from memjax.types import PER_LAYER, Aux, MixerConfig, State

Remat = Literal["none", "dots", "full"]
Taps = Mapping[str, Mapping[str, jax.Array]]  # {"0/mlp": {array: [R, B, T, ...]}}, see memjax.layers.memory_table


@dataclasses.dataclass(frozen=True)
class BlockConfig:
    """One residual block: a mixer, then an MLP (or a memory layer, or both) or nothing."""

    mixer: MixerConfig = GatedDeltaNetConfig()
    """Configuration of the mixer over time."""
    mlp: MixerConfig | None = GatedMLPConfig()
    """Configuration of what fills the MLP slot; None leaves it out."""
    memory: MixerConfig | None = None
    """Configuration of a memory layer beside the MLP, of which it reads the input; None: there is none."""
    memory_delay: int = 0
    """Blocks of the pattern that the output of `memory` skips before it is added (UltraMem's skip layers); 0: none."""

    def share(self, slot: str) -> str | None:
        """The name of the table at the model's root that the layer in this slot reads; None: it reads no such table."""
        return getattr(getattr(self, slot), "share", None)


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
    state: per block of the pattern, (mixer state, MLP state), and the memory's where there is one beside the MLP; each
        leaf with a leading axis R.
    aux: scalars of all layers, summed for `loss/...`, averaged for `metric/...`; `metric/layer<n>/...` are of one.
    """

    logits: Float[Array, "B T vocab"]
    state: State
    aux: Aux


class HiddenOutput(NamedTuple):
    """As `LMOutput`, with the normalised residual stream [B, T, D] in place of the logits.

    With taps, aux["reads"] holds what memory layers read: {"0/mlp": {array: Read}}, leaves with a leading axis R.
    """

    hidden: Float[Array, "B T D"]
    state: State
    aux: Aux


class Embedding(nnx.Module):
    """A table [vocab, D]."""

    def __init__(self, rows: int, width: int, *, std: float, rngs: nnx.Rngs):
        self.table = nnx.Param(std * jax.random.normal(rngs.params(), (rows, width), jnp.float32))


class BlockOutput(NamedTuple):
    """Attributes:
    x: the residual stream after mixer and MLP.
    memory: what the memory beside the MLP adds to it, None where there is none.
    state: of mixer and MLP, and of the memory where there is one.
    aux: scalars.
    reads: {"mlp" or "memory": {array: Read}} of tapped memory layers.
    """

    x: jax.Array
    memory: jax.Array | None
    state: State
    aux: Aux
    reads: dict[str, Any]


class Block(nnx.Module):
    """h + mixer(norm(h)), then h + mlp(norm(h)), and a memory layer that reads what the MLP reads."""

    def __init__(self, config: BlockConfig, width: int, *, epsilon: float, rngs: nnx.Rngs):
        self.config = config
        self.mixer_norm = RMSNorm(width, epsilon=epsilon)
        self.mixer = config.mixer.make(width, rngs=rngs)
        self.mlp_norm = None if config.mlp is config.memory is None else RMSNorm(width, epsilon=epsilon)
        self.mlp = None if config.mlp is None else config.mlp.make(width, rngs=rngs)
        self.memory = None if config.memory is None else config.memory.make(width, rngs=rngs)

    def init_state(self, batch_size: int) -> State:
        parts = (self.mixer, self.mlp) if self.memory is None else (self.mixer, self.mlp, self.memory)
        return tuple(() if part is None else part.init_state(batch_size) for part in parts)

    def __call__(self, x, state, *, segment_ids, key, handed: Mapping[str, Any] | None = None) -> BlockOutput:
        """`handed` has, by slot, the arguments that only memory layers take: `table`, `taps`."""
        handed = handed or {}
        keys = [None] * 3 if key is None else list(jax.random.split(key, 3))
        before = [None] * 3 if state is None else [*state, None]
        mixed, mixer_state, aux = self.mixer(self.mixer_norm(x), before[0], segment_ids=segment_ids, key=keys[0])
        x = x + mixed
        if self.mlp_norm is None:
            return BlockOutput(x, None, (mixer_state, ()), aux, {})
        added, states, reads = [None, None], [(), ()], {}
        for place, name in enumerate(SLOTS):
            part = getattr(self, name)
            if part is not None:
                arguments = {"segment_ids": segment_ids, "key": keys[place + 1], **handed.get(name, {})}
                added[place], states[place], found = part(self.mlp_norm(x), before[place + 1], **arguments)
                aux = _merge(aux, {key: value for key, value in found.items() if key != READS})
                reads |= {name: found[READS]} if READS in found else {}
        x = x if added[0] is None else x + added[0]
        kept = states if self.memory is not None else states[:1]
        return BlockOutput(x, added[1], (mixer_state, *kept), aux, reads)


class Backbone(nnx.Module):
    """The blocks and the last norm. Parameters come from `rngs`; the stacked axis R of each block is its repeats."""

    def __init__(self, config: BackboneConfig, *, rngs: nnx.Rngs):
        if config.width < 1 or config.repeats < 1 or not config.blocks:
            raise ValueError(f"{type(self).__name__}: width, repeats and the number of blocks must be at least 1")
        for number, block in enumerate(config.blocks):
            if not 0 <= block.memory_delay < len(config.blocks) - number:
                raise ValueError(f"{type(self).__name__}: memory_delay={block.memory_delay} leads out of the pattern")
        self.config = config
        self.blocks = nnx.List([self._stack(block, rngs) for block in config.blocks])
        self.tables = nnx.Dict(shared_tables(config.blocks, config.width, rngs))
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
        taps: Taps | None = None,
    ) -> HiddenOutput:
        """The residual stream [B, T, D] after all blocks and the norm, from the embedded one, in the latter's dtype.

        With `taps` (those of `self.taps`, or {}) the tables of memory layers are constants, read where they lie, and
        what is tapped is reported. Without, a table is differentiated like any parameter, and where layers of a stack
        own one each, a layer's is copied out of the stack, at every call.
        """
        blocks, own = (tuple(self.blocks), {}) if taps is None else lift_tables(self.blocks)

        def handed_down(number, repeat, taps):
            found = self._handed_tables(number)
            for slot in SLOTS:
                name = f"{number}/{slot}"
                found[slot] |= {"table": StackedTable(own[name], repeat)} if name in own else {}
                found[slot] |= {"taps": taps[name]} if name in taps else {}
            return found

        def group(x, layers):
            blocks, states, key, taps, repeat = layers
            count = len(blocks)
            keys = [None] * count if key is None else jax.random.split(key, count)
            states = [None] * count if states is None else states  # mixers need not look at an empty one
            new, aux, reads, late = [], {}, {}, {}
            for number, block in enumerate(blocks):
                options = {"segment_ids": segment_ids, "key": keys[number]}
                out = block(x, states[number], handed=handed_down(number, repeat, taps), **options)
                if out.memory is not None:
                    to = number + self.config.blocks[number].memory_delay
                    late[to] = late[to] + out.memory if to in late else out.memory
                x = out.x + late[number] if number in late else out.x
                new.append(out.state)
                aux = _merge(aux, _numbered(out.aux, number))
                reads |= {f"{number}/{name}": read for name, read in out.reads.items()}
            return x, (tuple(new), aux, reads)

        repeats = self.config.repeats
        keys = None if key is None else jax.random.split(key, repeats)
        layers = (blocks, state, keys, dict(taps or {}), jnp.arange(repeats))
        x, (state, aux, reads) = jax.lax.scan(_remat(group, self.config.remat), x, layers)
        aux = _over_layers(aux, len(self.blocks)) | ({READS: reads} if reads else {})
        return HiddenOutput(self.final_norm(x), state, aux)

    def taps(self, batch: int, time: int) -> Taps:
        """Zeros for `stream` and `hidden`, float32, one for each array that a memory layer reads."""
        found = {}
        for number, block in enumerate(self.blocks):
            for slot in SLOTS:
                shapes = getattr(getattr(block, slot), "tap_shapes", dict)()
                if shapes:
                    lead = (self.config.repeats, batch, time)
                    found[f"{number}/{slot}"] = {name: jnp.zeros(lead + size) for name, size in shapes.items()}
        return found

    def flops_per_token(self, length: int) -> float:
        """Floating-point operations of the forward pass per token in rows of `length`, by formula: twice the entries
        of every matrix a token meets (head included, look-ups not), plus what each mixer and memory layer counts."""
        leaves = jax.tree_util.tree_leaves_with_path(nnx.state(self.blocks))
        matrices = [leaf.size for path, leaf in leaves if leaf.ndim == 3 and not in_table(path)]
        layers = (self._layer(block, 0) for block in self.blocks)
        parts = [part for layer in layers for part in (layer.mixer, layer.mlp, layer.memory) if part is not None]
        counts = (getattr(part, "flops_per_token", None) for part in parts)
        own = sum(count(length) for count in counts if count is not None)
        return 2.0 * (sum(matrices) + self._outer_entries()) + self.config.repeats * own

    def _outer_entries(self) -> int:
        """Entries of the matrices outside the blocks that a token is multiplied with."""
        raise NotImplementedError

    def layer(self, number: int) -> Block:
        """The block that runs as layer `number`, counted from 0, taken out of the stack of its repeats."""
        return self._layer(self.blocks[number % len(self.blocks)], number // len(self.blocks))

    def before(self, number: int, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """The residual stream that layer `number` reads, from the embedded one: layer by layer, to look inside."""
        late: dict[int, jax.Array] = {}
        for layer in range(number):
            place = layer % len(self.blocks)
            handed = self._handed_tables(place)
            out = self.layer(layer)(x, None, segment_ids=None, key=None, handed=handed)
            if out.memory is not None:
                to = layer + self.config.blocks[place].memory_delay
                late[to] = late.get(to, 0) + out.memory
            x = out.x + late.pop(layer, 0)
        return x

    def _handed_tables(self, number: int) -> dict[str, dict[str, Any]]:
        """For each slot of a block of the pattern the table that it shares, as the argument of its layer."""
        shares = {slot: self.config.blocks[number].share(slot) for slot in SLOTS}
        return {slot: {} if share is None else {"table": self.tables[share]} for slot, share in shares.items()}

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
        taps: Taps | None = None,
        dtype: Any = jnp.float32,
    ) -> HiddenOutput:
        """The normalised residual stream [B, T, D] in `dtype`, which is the dtype of all matrix products."""
        x = self.embed.table[...].astype(dtype)[tokens]
        return self.stream(x, state, segment_ids=segment_ids, key=key, taps=taps)

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


def _numbered(aux: Aux, number: int) -> Aux:
    """Metrics that are of one layer get the number of the block in the pattern into their names."""
    cut = len(PER_LAYER)
    return {f"{PER_LAYER}{number}/{k[cut:]}" if k.startswith(PER_LAYER) else k: v for k, v in aux.items()}


def _over_layers(aux: Aux, blocks: int) -> dict[str, Any]:
    """Scalars from what the repeats of the pattern report, [R] each."""
    found = {}
    for name, values in aux.items():
        if name.startswith(PER_LAYER):
            number, rest = name[len(PER_LAYER) :].split("/", 1)
            for repeat, value in enumerate(values):
                found[f"metric/layer{repeat * blocks + int(number)}/{rest}"] = value
        else:
            found[name] = values.sum() if name.startswith("loss/") else values.mean()
    return found


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
