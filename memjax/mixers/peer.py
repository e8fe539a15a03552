"""PEER: a mixture of a million experts (He, 2024, arXiv 2407.04153).

Each row of the table is an expert of a single hidden unit: a vector u that reads and a vector v that writes. Product
keys retrieve the k experts of every head:

    rows_h, s_h = the k best product keys of norm(W_q x)_h        g_h = softmax(s_h)
    y = sum_h sum_j g_hj gelu(<u[rows_hj], x>) v[rows_hj]

    paper        here              shape
    K            lookup.keys       [H, 2, N, K/2]
    u_i          table.down        [N N, D]
    v_i          table.up          [N N, D]

Where we differ: the query is normalised a token at a time (RMSNorm) where the paper has a batch norm, whose statistics
would let a token see later ones.
"""

import dataclasses
from typing import Literal

import jax
from flax import nnx

from memjax.layers import MemoryTable, ProductKeys, TableReader, usage_metrics
from memjax.types import MixerConfig, MixerOutput

_ACTIVATIONS = {"gelu": jax.nn.gelu, "relu": jax.nn.relu, "silu": jax.nn.silu}


@dataclasses.dataclass(frozen=True)
class PeerConfig(MixerConfig):
    """Configuration of `Peer`; the paper's has subkeys=1024, heads=8, topk=16."""

    heads: int = 8
    """Heads H, each with keys of its own and all with the same experts."""
    topk: int = 16
    """Experts of a head for a token, k."""
    subkeys: int = 128
    """Sub-keys in each of a head's two sets, N; there are N * N experts."""
    key_dim: int | None = None
    """Channels of a key, K, both halves together; None takes half of the width, rounded up to an even number."""
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    """What an expert applies to its reading."""
    scores: Literal["softmax", "sigmoid"] = "softmax"
    """How scores become the weights of experts: competing within a head, as in the paper, or each for itself."""
    query_norm: bool = True
    """Normalise each half of a head's query."""
    share: str | None = None
    """Name of a table at the model's root, read by all layers that give this name; None: a table of its own."""
    usage: bool = True
    """Report which part of the table is used, per head, as metrics."""

    def make(self, width: int, *, rngs: nnx.Rngs) -> "Peer":
        return Peer(self, width, rngs=rngs)

    def make_table(self, width: int, *, rngs: nnx.Rngs) -> MemoryTable:
        """The experts of layers of `width` channels: down and up [N * N, D], of standard deviation D ** -0.5."""
        return MemoryTable(self.subkeys**2, dict.fromkeys(("down", "up"), (width, width**-0.5)), rngs=rngs)


class Peer(nnx.Module):
    """The layer; see the head of this file for its equations. It acts on each token alone: its state is empty."""

    def __init__(self, config: PeerConfig, width: int, *, rngs: nnx.Rngs):
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
        return {"down": (self.config.heads * self.config.topk,), "up": (self.width,)}

    def __call__(self, x, state=None, *, segment_ids=None, key=None, table=None, taps=None) -> MixerOutput:
        """`table` (its arrays `down` and `up`) and `taps` as `memjax.layers.TableReader` takes them."""
        reader = TableReader(self.table, table, taps)
        scores, rows = self.lookup(x)
        gates = jax.nn.softmax(scores, axis=-1) if self.config.scores == "softmax" else jax.nn.sigmoid(scores)
        flat = rows.reshape(*x.shape[:-1], -1)
        hidden = _ACTIVATIONS[self.config.activation](reader.dots("down", flat, x))
        y = reader.bag("up", flat, hidden * gates.reshape(flat.shape))
        aux = usage_metrics(rows, gates, reader.rows, segment_ids) if self.config.usage else {}
        return MixerOutput(y.astype(x.dtype), (), aux | reader.aux)

    def flops_per_token(self, length: int) -> float:
        """Of the scores, the readings and the sum of the writings."""
        return self.lookup.flops_per_token() + 4.0 * self.config.heads * self.config.topk * self.width
