"""UltraMem (Huang, Min, Huang et al., 2024, arXiv 2411.12364) and UltraMemV2 (arXiv 2508.18756).

A product-key memory whose n x n scores have rank r instead of one, whose values are virtually E times as many, and
that weighs by the scores themselves. For each head

    q = norm(W_q x);   S_1 = K_1 q_1, S_2 = K_2 q_2  [r, n]               grid = S_1^T C S_2, C = sum_i C_i
    candidates: the m best of u^T S_1 and of t^T S_2, u and t the leading singular vectors of C
    slots (a, b), the m best of grid among the m x m candidates           s_i = (S_1^T C_i S_2)[a, b]  for the core i
    y = sum_e W_e (sum over the slots of virtual block e of s_i V_i[row], side by side for all cores i)

The n x n slots are E virtual blocks over n n / E rows: slot (a, b) lies in block a' // (n / E), a' = (a + 5 b) mod n, a
fixed mixing that keeps a block from belonging to a range of sub-keys, and reads row (a' mod n / E) n + b. The cores C_i
share the slots and weigh a slice of the values each.

    paper           here              shape
    K_row, K_col    keys              [H, 2, r, n, K/2]
    C^(i)           cores             [H, cores, r, r]
    V               table.values<i>   [n n / E, V / cores]
    W_p             output            [E V, D]
    P (V2)          table.pre         [n n / E, P]

UltraMemV2, as fields: beside an MLP in every block (`BlockConfig.memory`); expansion=1, one projection for all rows;
query_per_rank; pre_dim, which multiplies each score by <P[row], W_x x>, experts of one unit without an activation;
the initial values that it derives, used with pre_dim. An output that is added some blocks later, as both have it:
`BlockConfig.memory_delay`.

Where we differ: norms are RMSNorms of each half of query and keys; the mixing of slots is the one above instead of a
random permutation, which would be an array as long as the table; the singular vectors are taken anew at every call.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from memjax.layers import Linear, MemoryTable, RMSNorm, ShortConv, TableReader, usage_metrics
from memjax.layers.norms import rms_normalize
from memjax.types import MixerConfig, MixerOutput

_STEP = 5  # columns move a slot's row by so many
_SAMPLES = 64  # normal inputs by which the initial size of scores is set


class UltraMemState(NamedTuple):
    """conv: the last W-1 inputs of the convolution, [B, W-1, D] float32."""

    conv: Float[Array, "B P D"]


@dataclasses.dataclass(frozen=True)
class UltraMemConfig(MixerConfig):
    """Configuration of `UltraMem`. UltraMemV2: expansion=1, query_per_rank=True, pre_dim a third of value_dim."""

    heads: int = 1
    """Heads H, each with keys and cores of its own and all with the same values."""
    topk: int = 32
    """Slots that a head reads for a token, m."""
    subkeys: int = 128
    """Sub-keys of each side, n; there are n * n slots."""
    key_dim: int | None = None
    """Channels of a key, K, both halves together; None takes half of the width, rounded up to an even number."""
    value_dim: int | None = None
    """Channels of a value, V, a multiple of `cores`; None takes half of the width."""
    rank: int = 2
    """Rank r of the grid of scores."""
    cores: int = 2
    """Cores, each with a slice of the values that it weighs (multi-core scoring)."""
    expansion: int = 4
    """Virtual blocks E over the rows of the table, each with a projection of its own; divides `subkeys`. 1: none."""
    query_per_rank: bool = False
    """A query for each rank instead of one for all (V2)."""
    pre_dim: int | None = None
    """Channels P in which a row reads the input, which then scales its score (V2); None: rows do not read."""
    conv_width: int = 1
    """Tokens that a causal convolution sees before the query; 1: none. The paper has one. More gives it a state."""
    tucker_weight: float = 0.001
    """Weight of the loss sum over i > 1 of max(0, lambda_i - 0.15)^2 / (r - 1), on the singular values of C, which
    keeps the candidates good; 0: none (V2)."""
    init_layers: int = 1
    """Memory layers of the model, L: initial values are so small that all together add a variance of one half."""
    share: str | None = None
    """Name of a table at the model's root, read by all layers that give this name; None: a table of its own."""
    usage: bool = True
    """Report which part of the table is used, per head, as metrics."""

    def make(self, width: int, *, rngs: nnx.Rngs) -> "UltraMem":
        return UltraMem(self, width, rngs=rngs)

    def make_table(self, width: int, *, rngs: nnx.Rngs) -> MemoryTable:
        """The table of layers of `width` channels: values<i> [n n / E, V / cores] a core, and pre [n n / E, P].

        Standard deviation: sqrt(E / (2 m H L)) without pre (UltraMem, section 3.6), by which the output has variance
        1 / (2 L); with it the fourth root of 0.8 D / (P V m H L) (UltraMemV2, its equations 22 and 25 with scores of
        mean 1 and an MLP of 4 D).
        """
        size, reads = self.sizes(width)[1], self.topk * self.heads * self.init_layers
        std = (self.expansion / (2 * reads)) ** 0.5
        columns = {}
        if self.pre_dim:
            std = (0.8 * width / (self.pre_dim * size * reads)) ** 0.25
            columns = {"pre": (self.pre_dim, std)}
        columns |= {f"values{core}": (size // self.cores, std) for core in range(self.cores)}
        return MemoryTable(self.subkeys**2 // self.expansion, columns, rngs=rngs)

    def sizes(self, width: int) -> tuple[int, int]:
        """K / 2 and V. Raises ValueError for sizes that do not fit together."""
        key, value = self.key_dim or 2 * -(-width // 4), self.value_dim or -(-width // 2 // self.cores) * self.cores
        if self.heads < 1 or self.rank < 1 or not 1 <= self.topk <= self.subkeys or self.subkeys**2 >= 2**31:
            raise ValueError(f"UltraMem: topk={self.topk} of subkeys={self.subkeys}, heads={self.heads}, {self.rank=}")
        if key % 2 or self.cores < 1 or value % self.cores:
            raise ValueError(f"UltraMem: key_dim={key} must be even, value_dim={value} a multiple of {self.cores=}")
        if self.expansion < 1 or self.subkeys % self.expansion:
            raise ValueError(f"UltraMem: expansion={self.expansion} must divide subkeys={self.subkeys}")
        if not 1 <= self.conv_width <= 16:
            raise ValueError(f"UltraMem: conv_width={self.conv_width} must lie in 1 .. 16")
        return key // 2, value


class UltraMem(nnx.Module):
    """The layer; see the head of this file for its equations. Without a convolution its state is empty."""

    def __init__(self, config: UltraMemConfig, width: int, *, rngs: nnx.Rngs):
        self.config = config
        half, self.value_dim = config.sizes(width)
        heads, rank, n = config.heads, config.rank, config.subkeys
        small = (2 / (5 * width)) ** 0.5 if config.pre_dim else None
        queries = rank if config.query_per_rank else 1
        self.query = Linear(width, heads * 2 * queries * half, rngs=rngs, std=small)
        self.keys = nnx.Param(jax.random.normal(rngs.params(), (heads, 2, rank, n, half), jnp.float32))
        self.key_scale = nnx.Param(jnp.full((half,), half**-0.5, jnp.float32))
        self.cores = nnx.Param(jax.random.uniform(rngs.params(), (heads, config.cores, rank, rank), jnp.float32))
        self.query_norm = RMSNorm(half)
        wide = config.conv_width > 1
        self.conv = ShortConv(config.conv_width, width, rngs=rngs, activation=None) if wide else None
        self.pre = Linear(width, config.pre_dim, rngs=rngs, std=small) if config.pre_dim else None
        self.output = Linear(config.expansion * self.value_dim, width, rngs=rngs, std=small)
        self.table = None if config.share else config.make_table(width, rngs=rngs)
        # Scores are quadratic in the query's scale; this one makes the mean of those that are read 1 (section 3.6).
        probe = self.query(jax.random.normal(rngs.params(), (_SAMPLES, width), jnp.float32))
        mean = jnp.mean(jnp.sum(self._slots(probe)[2], axis=-2))
        self.query_norm.scale[...] = self.query_norm.scale[...] * jax.lax.rsqrt(jnp.maximum(mean, 1e-4))

    def init_state(self, batch_size: int) -> UltraMemState | tuple[()]:
        return () if self.conv is None else UltraMemState(self.conv.init_state(batch_size))

    def tap_shapes(self) -> dict[str, tuple[int, ...]]:
        """{array of the table: shape, for each token, of what is read of it}."""
        config = self.config
        shapes: dict[str, tuple[int, ...]] = {"pre": (config.heads * config.topk,)} if config.pre_dim else {}
        read = (config.expansion, self.value_dim // config.cores)
        return shapes | {f"values{core}": read for core in range(config.cores)}

    def __call__(self, x, state=None, *, segment_ids=None, key=None, table=None, taps=None) -> MixerOutput:
        """`table` (its arrays as `make_table` names them) and `taps` as `memjax.layers.TableReader` takes them."""
        config, reader, seen = self.config, TableReader(self.table, table, taps), x
        state = self.init_state(x.shape[0]) if state is None else state
        if self.conv is not None and isinstance(state, UltraMemState):
            seen, conv = self.conv(x, state.conv, segment_ids)
            state = UltraMemState(conv)
        seen = seen.astype(jnp.promote_types(x.dtype, jnp.float32))  # a rounded query finds other slots
        first, second, scores = self._slots(self.query(seen))
        flat = lambda values: values.reshape(*x.shape[:-1], -1)  # heads and slots as one axis of reads
        block, row = _place(flat(first), flat(second), config.subkeys, config.expansion)
        weights = jnp.moveaxis(scores, -2, 0)  # [cores, B, T, H, m]
        aux = usage_metrics(row.reshape(first.shape), weights.sum(0), reader.rows, segment_ids) if config.usage else {}
        reading = 1.0 if self.pre is None else reader.dots("pre", row, self.pre(x))
        in_block = block[..., None, :] == jnp.arange(config.expansion).reshape(*[1] * (x.ndim - 1), -1, 1)
        rows = jnp.where(in_block, row[..., None, :], reader.rows)  # a row beyond the table is not read
        slices = []
        for core in range(config.cores):
            weight = jnp.broadcast_to((flat(weights[core]) * reading)[..., None, :], rows.shape)
            slices.append(reader.bag(f"values{core}", rows, weight))
        y = self.output(jnp.concatenate(slices, axis=-1).reshape(*x.shape[:-1], -1).astype(x.dtype))
        if config.tucker_weight and config.rank > 1:
            aux["loss/tucker"] = config.tucker_weight * self._tucker_loss()
        return MixerOutput(y, state, aux | reader.aux)

    def _slots(self, query: Float[Array, "*lead F"]):
        """a and b [..., H, m] of the slots that are read, and their scores [..., H, cores, m], float32 or wider."""
        config = self.config
        rank, m = config.rank, config.topk
        query = self.query_norm(query.reshape(*query.shape[:-1], config.heads, 2, -1, self.key_scale.shape[0]))
        keys = rms_normalize(self.keys[...]) * self.key_scale[...][None, None, None, None]
        query = jnp.broadcast_to(query, (*query.shape[:-2], rank, query.shape[-1])).astype(keys.dtype)
        halves = jnp.einsum("...hsrc,hsrnc->...hsrn", query, keys, precision="highest")
        one, two = halves[..., 0, :, :], halves[..., 1, :, :]
        first, second = self._choose(jax.lax.stop_gradient(one), jax.lax.stop_gradient(two), m)
        pick = lambda half, at: jnp.take_along_axis(half, at[..., None, :], axis=-1)
        scores = jnp.einsum("...hpm,hipq,...hqm->...him", pick(one, first), self.cores[...], pick(two, second))
        return first, second, scores

    def _choose(self, one, two, m) -> tuple[Int[Array, "*lead m"], Int[Array, "*lead m"]]:
        """The m best slots among the candidates: a and b. No gradient passes."""
        core = jax.lax.stop_gradient(self.cores[...]).sum(1)  # [H, r, r]
        left, _, right = jnp.linalg.svd(core)
        u, t = left[..., 0], right[..., 0, :]
        sign = jnp.where(u.sum(-1, keepdims=True) < 0, -1.0, 1.0)  # a pair of singular vectors has two signs
        best = lambda half, v: jax.lax.top_k(jnp.einsum("hr,...hrn->...hn", v * sign, half), m)[1]
        first, second = best(one, u), best(two, t)
        pick = lambda half, at: jnp.take_along_axis(half, at[..., None, :], axis=-1)
        grid = jnp.einsum("...hpa,hpq,...hqb->...hab", pick(one, first), core, pick(two, second), precision="highest")
        chosen = jax.lax.top_k(grid.reshape(*grid.shape[:-2], m * m), m)[1]
        at = lambda ranks, which: jnp.take_along_axis(ranks, which, axis=-1)
        return at(first, chosen // m), at(second, chosen % m)

    def _tucker_loss(self):
        values = jnp.linalg.svd(self.cores[...].sum(1), compute_uv=False)[..., 1:]
        return jnp.sum(jnp.square(jax.nn.relu(values - 0.15))) / (self.config.rank - 1)

    def flops_per_token(self, length: int) -> float:
        """Of scores, candidates, readings and the sum of the values; the projections are counted with the others."""
        config = self.config
        reads = config.heads * config.topk
        grid = 2.0 * reads * config.topk * config.rank + 2.0 * reads * config.rank**2
        return 2.0 * self.keys.size + grid + 2.0 * reads * (self.value_dim + (config.pre_dim or 0))


def _place(a, b, n, expansion):
    """Block and row of slot (a, b)."""
    moved = (a + _STEP * b) % n
    return moved // (n // expansion), moved % (n // expansion) * n + b
