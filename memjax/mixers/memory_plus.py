"""Memory+ (Berges, Oguz, Haziza, Yih, Zettlemoyer, Ghosh, 2024, "Memory Layers at Scale", arXiv 2412.09764).

Product-key memory with normalised queries and keys, an input gate and an output projection; several layers read one
table, each with keys of its own:

    rows_h, s_h = the k best product keys of norm(W_q x)_h        w_h = softmax(s_h)
    m = sum_h sum_j w_hj V[rows_hj]                               y = W_2 (m * silu(W_1 x))

    paper        here             shape
    K            lookup.keys      [H, 2, N, K/2]
    V            table.values     [N N, V]
    W_1          gate             [D, V]
    W_2          output           [V, D]

In the paper three layers of the model, centred and spread over its depth, lose their MLP to this layer and share the
table (`share`). Where we differ: qk-norm is an RMSNorm of each half with learned scales and on by default (the text
names it, the published code has none); no biases, whose published initialisation is undefined.
"""

import dataclasses

import jax
from flax import nnx

from memjax.layers import Linear, MemoryTable, ProductKeys, TableReader, usage_metrics
from memjax.types import MixerConfig, MixerOutput


@dataclasses.dataclass(frozen=True)
class MemoryPlusConfig(MixerConfig):
    """Configuration of `MemoryPlus`; the paper's has subkeys=1024, heads=4, topk=32, and up to 8192 sub-keys."""

    heads: int = 4
    """Heads H, each with keys of its own and all with the same values."""
    topk: int = 32
    """Rows that a head reads for a token, k."""
    subkeys: int = 128
    """Sub-keys in each of a head's two sets, N; the table has N * N rows."""
    key_dim: int | None = None
    """Channels of a key, K, both halves together; None takes half of `value_dim`, rounded up to an even number."""
    value_dim: int | None = None
    """Channels of a value, V; None takes the width."""
    qk_norm: bool = True
    """Normalise queries and keys."""
    gate: bool = True
    """Gate what was read by silu(W_1 x), and project it by W_2; without it y is what was read (needs V = D)."""
    share: str | None = None
    """Name of a table at the model's root, read by all layers that give this name; None: a table of its own."""
    usage: bool = True
    """Report which part of the table is used, per head, as metrics."""

    def make(self, width: int, *, rngs: nnx.Rngs) -> "MemoryPlus":
        return MemoryPlus(self, width, rngs=rngs)

    def make_table(self, width: int, *, rngs: nnx.Rngs) -> MemoryTable:
        """The table of layers of `width` channels: values [N * N, V], of standard deviation V ** -0.5."""
        size = self.value_dim or width
        return MemoryTable(self.subkeys**2, {"values": (size, size**-0.5)}, rngs=rngs)


class MemoryPlus(nnx.Module):
    """The layer; see the head of this file for its equations. It acts on each token alone: its state is empty."""

    def __init__(self, config: MemoryPlusConfig, width: int, *, rngs: nnx.Rngs):
        self.config, self.value_dim = config, config.value_dim or width
        if not config.gate and self.value_dim != width:
            raise ValueError(f"MemoryPlus: gate=False needs value_dim={self.value_dim} to be the width, {width}")
        self.lookup = ProductKeys(
            width,
            heads=config.heads,
            key_dim=config.key_dim or 2 * -(-self.value_dim // 4),
            subkeys=config.subkeys,
            topk=config.topk,
            query_norm=config.qk_norm,
            key_norm=config.qk_norm,
            rngs=rngs,
        )
        self.gate = Linear(width, self.value_dim, rngs=rngs) if config.gate else None
        self.output = Linear(self.value_dim, width, rngs=rngs) if config.gate else None
        self.table = None if config.share else config.make_table(width, rngs=rngs)

    def init_state(self, batch_size: int) -> tuple[()]:
        return ()

    def tap_shapes(self) -> dict[str, tuple[int, ...]]:
        """{array of the table: shape, for each token, of what is read of it}."""
        return {"values": (self.value_dim,)}

    def __call__(self, x, state=None, *, segment_ids=None, key=None, table=None, taps=None) -> MixerOutput:
        """`table` and `taps` as `memjax.layers.TableReader` takes them."""
        reader = TableReader(self.table, table, taps)
        scores, rows = self.lookup(x)
        weights = jax.nn.softmax(scores, axis=-1)
        y = reader.bag("values", rows.reshape(*x.shape[:-1], -1), weights.reshape(*x.shape[:-1], -1)).astype(x.dtype)
        if self.gate is not None and self.output is not None:
            y = self.output(y * jax.nn.silu(self.gate(x)))
        aux = usage_metrics(rows, weights, reader.rows, segment_ids) if self.config.usage else {}
        return MixerOutput(y, (), aux | reader.aux)

    def flops_per_token(self, length: int) -> float:
        """Of the scores and the sum of the values."""
        return self.lookup.flops_per_token() + 2.0 * self.config.heads * self.config.topk * self.value_dim
