"""How the kernels of the value bag cut their work, by the shape of the problem, and what they cannot cut."""

import math
from dataclasses import dataclass

MIB = 2**20
LANES, SUBLANES = 128, 8  # of a TPU tile
THREADS = 128  # of a Hopper warpgroup

# Below this many bytes of rows a call is over before a kernel has its pipe full, and XLA's program needs no padding.
WORTH = MIB


@dataclass(frozen=True)
class TpuTiling:
    """tokens: of a grid step.    bag: J, rounded up to whole sublanes.    slots: tokens whose rows are in flight."""

    tokens: int
    bag: int
    slots: int


def row_bytes(width: int, itemsize: int) -> int:
    """What one read brings into a TPU core: a row, for bfloat16 the pair of rows that shares its words."""
    return width * max(itemsize, 4)


def tpu(tokens: int, bag: int, width: int) -> TpuTiling:
    """For T tokens of J reads each, rows of V numbers.

    A grid step's indices fit 128 KiB of scalar memory (of 1 MiB, held twice), its outputs and what goes with them
    2 MiB of vector memory. Rows in flight aim at 2 MiB: what a chip of 1.6 TB/s moves in the microsecond or so that a
    copy takes; at least two tokens, at most 16.
    """
    bag = _up(bag, SUBLANES)
    most = min(LANES, 2**17 // (4 * bag), 2 * MIB // (4 * width))
    step = max(SUBLANES, most // SUBLANES * SUBLANES)
    slots = max(2, min(16, 2 * MIB // (bag * width * 4)))
    return TpuTiling(min(step, _up(max(tokens, 1), SUBLANES)), bag, slots)


def tpu_vmem(tiling: TpuTiling, width: int) -> int:
    """Bytes of vector memory: rows in flight, and the blocks of a step, each twice: [J, tokens] twice, [tokens, V]."""
    rows = tiling.slots * tiling.bag * width * 4
    by_lane = 2 * tiling.bag * _up(tiling.tokens, LANES) * 4
    return rows + 2 * (by_lane + tiling.tokens * width * 4) + tiling.tokens * width * 4


@dataclass(frozen=True)
class TpuSums:
    """slots: groups of 8 reads whose rows are in flight.    writes: rows on their way to the result."""

    slots: int
    writes: int


def tpu_sums(width: int) -> TpuSums:
    """Up to 128 rows of V numbers in flight, more than the scalar core starts in the microsecond that a copy takes, and
    up to 32 out; of rows in flight at most 2 MiB, but at least two groups."""
    slots = max(2, min(16, 2 * MIB // (SUBLANES * width * 4)))
    return TpuSums(slots, 2 * slots)


def tpu_sums_vmem(tiling: TpuSums, width: int) -> int:
    """Bytes of vector memory: rows on their way in and out, and three sums, each of which takes a tile's sublanes."""
    return (SUBLANES * tiling.slots + _up(tiling.writes, SUBLANES) + 3 * SUBLANES) * width * 4


@dataclass(frozen=True)
class GpuTiling:
    """reads: rows in flight a block.    columns: of a row, at once.    vector: of them a thread loads."""

    reads: int
    columns: int
    vector: int


def gpu_bag(width: int, itemsize: int) -> GpuTiling:
    """Rows of V numbers, up to 1024 columns a block: 8 rows of 8 numbers a thread on their way, 16 bytes a load."""
    columns = _divisor(width, 8 * THREADS)
    return GpuTiling(8, columns, math.gcd(columns // THREADS, 16 // itemsize))


def gpu_dots(width: int, itemsize: int) -> GpuTiling:
    """A number a thread (two of bfloat16), 4 bytes a load: the fewer columns, the fewer partial sums to exchange."""
    vector = math.gcd(width // THREADS, max(1, 4 // itemsize))
    return GpuTiling(16, THREADS * vector, vector)


def _divisor(width, most):
    """The largest multiple of the threads of a warpgroup that divides V and is at most `most`."""
    return next(c for c in range(min(width, most), 0, -THREADS) if width % c == 0)


def _up(number: int, multiple: int) -> int:
    return math.ceil(number / multiple) * multiple
