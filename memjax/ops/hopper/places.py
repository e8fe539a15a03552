"""Where a block of the grid stands that owns one chunk of one memory, and what it cuts out of arrays there."""

from typing import Any, NamedTuple

import jax
from jax.experimental import pallas as pl

from memjax.ops.hopper.tiles import ROWS


class Spot(NamedTuple):
    """Row of the batch, value head, key head, chunk, and a block of 64 key channels where the grid has these.

    The methods give tile i, where the array has more than one, of a part of an array, where it has these; those with
    `block` in their name that of the block's own channels.
    """

    batch: Any
    group: Any
    head: Any
    chunk: Any
    block: Any = None

    @property
    def tokens(self):
        """The chunk's."""
        return pl.ds(self.chunk * ROWS, ROWS)

    def channels(self, i):
        """Of tile i."""
        return pl.ds(i * ROWS, ROWS)

    def keys(self, ref, i, part):
        """Of [parts, B, T, H, K]."""
        return self.all_keys(ref, i, part).at[:, self.channels(i)]

    def all_keys(self, ref, i, part):
        """All channels of [parts, B, T, H, K]."""
        return ref.at[part, self.batch, self.tokens, self.head]

    def block_keys(self, ref, i, part):
        """Of [parts, B, T, H, K]."""
        return self.keys(ref, self.block, part)

    def gate(self, ref, i, part):
        """Of [B, T, G, K]."""
        return ref.at[self.batch, self.tokens, self.group, self.channels(i)]

    def block_gate(self, ref, i, part):
        """Of [B, T, G, K]."""
        return self.gate(ref, self.block, part)

    def operand(self, ref, i, part):
        """Of [parts, B, T, G, K or V]."""
        return self.gate(ref.at[part], i, part)

    def vector(self, ref, i, part):
        """Of [B, G, N, ...]."""
        return ref.at[self.batch, self.group, self.chunk]

    def block_vector(self, ref, i, part):
        """Of [B, G, N, K]."""
        return ref.at[self.batch, self.group, self.chunk, self.channels(self.block)]

    def documents(self, ref, i, part):
        """Of [B, N, C]."""
        return ref.at[self.batch, self.chunk]

    def matrix(self, ref, i, part):
        """Of [parts, B, G, N, C, C]."""
        return ref.at[part, self.batch, self.group, self.chunk]

    def block_state(self, ref, i, part):
        """Tile i of V of [parts, B, G, N, K, V]."""
        return ref.at[part, self.batch, self.group, self.chunk, self.channels(self.block), self.channels(i)]


def spot(groups: int, heads: int, *, blocks: bool = False) -> Spot:
    """Of this instance of a kernel on a grid of memories, chunks and, if `blocks`, blocks of key channels."""
    memory = jax.lax.axis_index("memory")
    group = jax.lax.rem(memory, groups)
    head = jax.lax.div(group, groups // heads)
    block = jax.lax.axis_index("block") if blocks else None
    return Spot(jax.lax.div(memory, groups), group, head, jax.lax.axis_index("chunk"), block)
