"""Softmax attention: the exact memory that grows, here with a cache of fixed length (Vaswani et al., arXiv 1706.03762).

    y = W_o concat_h softmax(q_h K_h^T / sqrt(K) + mask) V_h         q, k rotated by their positions (arXiv 2104.09864)

Grouped queries (arXiv 2305.13245): H query heads read G_kv key/value heads. A token sees at most the last `context`
tokens of its own document, itself included, in one call as in many: the cache is a ring of `context` slots, the slot
of a token its position modulo `context`, so a sliding window (arXiv 2004.05150) and a full cache are one thing.

    symbol   here               shape
    K, V     state.key, .value  [B, context, kv_heads, head_dim] float32, zero where nothing was written
    n        state.count        [B] int32, tokens of the document seen so far

Where we differ: positions count from the document's start, so packed documents equal separate ones.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from memjax.layers import Linear, rotary
from memjax.layers.norms import RMSNorm
from memjax.ops import segments
from memjax.types import MixerConfig, MixerOutput

_LEAST_BLOCK, _MOST_BLOCKS = 128, 8  # queries of one block at least, blocks of one call at most


class AttentionState(NamedTuple):
    """Attributes:
    key, value: [B, context, kv_heads, head_dim] float32; slot p % context holds position p, dead slots are zero.
    count: [B] int32, length of the current document so far.
    """

    key: Float[Array, "B S H K"]
    value: Float[Array, "B S H K"]
    count: Int[Array, "B"]


class _Tokens(NamedTuple):
    position: jax.Array
    document: jax.Array
    valid: jax.Array


@dataclasses.dataclass(frozen=True)
class AttentionConfig(MixerConfig):
    """Configuration of `Attention`."""

    heads: int = 4
    """Query heads H."""
    kv_heads: int | None = None
    """Key/value heads, a divisor of `heads`; None takes as many."""
    head_dim: int | None = None
    """Channels of a head, K (even); None takes width / heads."""
    context: int = 2048
    """Tokens a query can see, itself included, and the slots of the cache."""
    rotary_base: float | None = 10_000.0
    """Base of the rotary embedding; None leaves positions out."""
    query_key_norm: bool = False
    """RMSNorm on the queries and keys of each head (arXiv 2010.04245)."""

    def make(self, width: int, *, rngs: nnx.Rngs) -> "Attention":
        return Attention(self, width, rngs=rngs)


class Attention(nnx.Module):
    """The mixer; see the head of this file for its equations."""

    def __init__(self, config: AttentionConfig, width: int, *, rngs: nnx.Rngs):
        self.config = config
        self.heads, self.kv_heads = config.heads, config.kv_heads or config.heads
        self.head_dim = config.head_dim or max(2, width // config.heads)
        if self.heads % self.kv_heads:
            raise ValueError(f"Attention: heads={self.heads} is no multiple of kv_heads={self.kv_heads}")
        if config.rotary_base is not None and self.head_dim % 2:
            raise ValueError(f"Attention: rotary positions need an even head_dim, not {self.head_dim}")
        if config.context < 1:
            raise ValueError(f"Attention: context={config.context} must be at least 1")
        self.query = Linear(width, self.heads * self.head_dim, rngs=rngs)
        self.key = Linear(width, self.kv_heads * self.head_dim, rngs=rngs)
        self.value = Linear(width, self.kv_heads * self.head_dim, rngs=rngs)
        self.output = Linear(self.heads * self.head_dim, width, rngs=rngs)
        self.query_norm = RMSNorm(self.head_dim) if config.query_key_norm else None
        self.key_norm = RMSNorm(self.head_dim) if config.query_key_norm else None

    def init_state(self, batch_size: int) -> AttentionState:
        cache = jnp.zeros((batch_size, self.config.context, self.kv_heads, self.head_dim), jnp.float32)
        return AttentionState(cache, cache, jnp.zeros((batch_size,), jnp.int32))

    def flops_per_token(self, time: int) -> float:
        """Multiply-adds counted twice of scores and reading, causal: half of the window on average."""
        return 4.0 * self.heads * self.head_dim * min(self.config.context, (time + 1) / 2)

    def __call__(self, x, state=None, *, segment_ids=None, key=None) -> MixerOutput:
        batch, time, _ = x.shape
        fresh = state is None and segment_ids is None
        state = self.init_state(batch) if state is None else state
        docs = segments.one_document(batch, time) if segment_ids is None else segments.documents(segment_ids)
        position, count = segments.count_on(docs, state.count)
        heads = lambda z, n: z.reshape(batch, time, n, self.head_dim)
        q, k, v = (
            heads(self.query(x), self.heads),
            heads(self.key(x), self.kv_heads),
            heads(self.value(x), self.kv_heads),
        )
        if self.query_norm is not None and self.key_norm is not None:
            q, k = self.query_norm(q), self.key_norm(k)
        if self.config.rotary_base is not None:
            q, k = (rotary(z, position, base=self.config.rotary_base) for z in (q, k))
        o = _attend(q, k, v, position, docs, None if fresh else state, self.config.context)
        y = self.output(o.reshape(batch, time, -1).astype(x.dtype))
        return MixerOutput(y, _write(state, k, v, docs, count, self.config.context), {})


def _attend(q, k, v, position, docs, state, context):
    """[B, T, H, K]: each query over the cache (for the first document) and over its own document in this call.

    Queries go in blocks that look only at the keys they can reach, which halves the work of a causal mask; the blocks
    are independent, so a CPU runs them side by side.
    """
    time = q.shape[1]
    block = max(_LEAST_BLOCK, -(-time // _MOST_BLOCKS))
    out = []
    for start in range(0, time, block):
        mine, reach = slice(start, min(start + block, time)), slice(max(0, start - context + 1), start + block)
        query = _Tokens(position[:, mine], docs.index[:, mine], docs.valid[:, mine])
        key = _Tokens(position[:, reach], docs.index[:, reach], docs.valid[:, reach])
        out.append(_attend_block(q[:, mine], k[:, reach], v[:, reach], query, key, state, context))
    return jnp.concatenate(out, axis=1)


def _attend_block(q, k, v, query, key, state, context):
    distance = query.position[:, :, None] - key.position[:, None, :]
    mask = (query.document[:, :, None] == key.document[:, None, :]) & key.valid[:, None, :]
    mask &= (distance >= 0) & (distance < context)
    mask |= ~query.valid[:, :, None]  # what padding sees is never used: anything, so that the softmax is finite
    if state is not None:
        k = jnp.concatenate([state.key.astype(k.dtype), k], axis=1)
        v = jnp.concatenate([state.value.astype(v.dtype), v], axis=1)
        age = query.position[:, :, None] - _slot_positions(state.count, context)[:, None, :]
        live = jnp.arange(context)[None] < state.count[:, None]
        cached = (query.document == 0)[:, :, None] & live[:, None, :] & (age < context)
        mask = jnp.concatenate([cached, mask], axis=2)
    q = q.reshape(*q.shape[:2], k.shape[2], -1, q.shape[-1])
    scores = jnp.einsum("bthgk,bshk->bhgts", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    weights = jax.nn.softmax(jnp.where(mask[:, None, None], scores, -jnp.inf), axis=-1)
    out = jnp.einsum("bhgts,bshk->bthgk", weights.astype(v.dtype), v)
    return out.reshape(*out.shape[:2], -1, out.shape[-1])


def _slot_positions(count, context):
    """[B, context]: the newest position below `count` that a slot can hold; negative when none was written."""
    slot = jnp.arange(context)[None]
    return count[:, None] - 1 - (count[:, None] - 1 - slot) % context


def _write(state, k, v, docs, count, context):
    """The cache after the call: the last `context` tokens of the row's last document, the rest zero."""
    last = docs.index[:, -1:]
    mine = docs.valid & (docs.index == last)
    before = jnp.where(last[:, 0] == 0, state.count, 0)
    holds = _slot_positions(count, context)  # [B, context] position each slot ends up with
    start = jnp.argmax(mine, axis=1)  # where the last document begins in this call
    source = jnp.clip(holds - before[:, None] + start[:, None], 0, k.shape[1] - 1)
    new = (holds >= before[:, None]) & (holds < count[:, None])
    old = (holds >= 0) & (holds < before[:, None])
    pick = lambda z: jnp.take_along_axis(z.astype(jnp.float32), source[:, :, None, None], axis=1)
    wide = lambda m: m[:, :, None, None]
    merge = lambda cache, z: jnp.where(wide(new), pick(z), jnp.where(wide(old), cache, 0))
    return AttentionState(merge(state.key, k), merge(state.value, v), count)
