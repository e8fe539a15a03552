"""Block sizes of the chunked gated delta rule, chosen by shape; no public signature carries them."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Tiling:
    """Attributes:
    chunk: tokens solved together, a power of two; the state is touched once a chunk.
    """

    chunk: int


def choose(time: int) -> Tiling:
    """64 tokens a chunk, fewer for a sequence that is shorter."""
    return Tiling(chunk=min(64, max(16, 1 << (time - 1).bit_length())))
