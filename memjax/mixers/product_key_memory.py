"""Product-key memory (Lample, Sablayrolles, Ranzato, Denoyer, Jegou, 2019, arXiv 1907.05242).

A table of values of which each token reads the few whose keys its query likes best:

    q_h = norm(W_q x)_h = (q_1, q_2)        score(a, b) = <q_1, K_1[a]> + <q_2, K_2[b]>, row = a N + b
    rows_h, s_h = the k best of N N          w_h = softmax(s_h)
    y = sum_h sum_j w_hj V[rows_hj]

    paper        here             shape
    C, C'        lookup.keys      [H, 2, N, K/2]
    V            table.values     [N N, D]
    q(x)         lookup.query     [D, H K]

The layer fills the MLP slot of a block or stands beside it. Where we differ: the query is normalised a token at a time
(RMSNorm) where the paper has a batch norm, whose statistics would let a token see later ones; and its projection has
no bias.
"""

import dataclasses

import jax
from flax import nnx

from memjax.layers import MemoryTable, ProductKeys, TableReader, usage_metrics
from memjax.types import MixerConfig, MixerOutput


@dataclasses.dataclass(frozen=True)
class ProductKeyMemoryConfig(MixerConfig):
    """Configuration of `ProductKeyMemory`; the paper's has subkeys=512, heads=4, topk=32, key_dim=256."""

    heads: int = 4
    """Heads H, each with keys of its own and all with the same values."""
    topk: int = 32
    """Rows that a head reads for a token, k."""
    subkeys: int = 128
    """Sub-keys in each of a head's two sets, N; the table has N * N rows."""
    key_dim: int | None = None
    """Channels of a key, K, both halves together; None takes half of the width, rounded up to an even number."""
    query_norm: bool = True
    """Normalise each half of a head's query."""
    share: str | None = None
    """Name of a table at the model's root, read by all layers that give this name; None: a table of its own."""
    usage: bool = True
    """Report which part of the table is used, per head, as metrics."""

    def make(self, width: int, *, rngs: nnx.Rngs) -> "ProductKeyMemory":
        return ProductKeyMemory(self, width, rngs=rngs)

    def make_table(self, width: int, *, rngs: nnx.Rngs) -> MemoryTable:
        """The table of a layer of `width` channels: values [N * N, D], of standard deviation D ** -0.5."""
        return MemoryTable(self.subkeys**2, {"values": (width, width**-0.5)}, rngs=rngs)


class ProductKeyMemory(nnx.Module):
    """The layer; see the head of this file for its equations. It acts on each token alone: its state is empty."""

    def __init__(self, config: ProductKeyMemoryConfig, width: int, *, rngs: nnx.Rngs):
        self.config, self.width = config, width
        self.lookup = ProductKeys(
            width,
            heads=config.heads,
            key_dim=config.key_dim or 2 * -(-width // 4),
            subkeys=config.subkeys,
            topk=config.topk,
            query_norm=config.query_norm,
            rngs=rngs,
        )
        self.table = None if config.share else config.make_table(width, rngs=rngs)

    def init_state(self, batch_size: int) -> tuple[()]:
        return ()

    def tap_shapes(self) -> dict[str, tuple[int, ...]]:
        """{array of the table: shape, for each token, of what is read of it}."""
        return {"values": (self.width,)}

    def __call__(self, x, state=None, *, segment_ids=None, key=None, table=None, taps=None) -> MixerOutput:
        """`table` and `taps` as `memjax.layers.TableReader` takes them."""
        reader = TableReader(self.table, table, taps)
        scores, rows = self.lookup(x)
        weights = jax.nn.softmax(scores, axis=-1)
        y = reader.bag("values", rows.reshape(*x.shape[:-1], -1), weights.reshape(*x.shape[:-1], -1))
        aux = usage_metrics(rows, weights, reader.rows, segment_ids) if self.config.usage else {}
        return MixerOutput(y.astype(x.dtype), (), aux | reader.aux)

    def flops_per_token(self, length: int) -> float:
        """Of the scores and the sum of the values."""
        return self.lookup.flops_per_token() + 2.0 * self.config.heads * self.config.topk * self.width
