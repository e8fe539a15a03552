"""Which form of the linear scan runs where, and its block sizes; no public signature carries them."""

import dataclasses
from typing import ClassVar, Literal

GROUP = 64
"""Tokens that kernels sum from zero before they add the state."""
LANES = 128
"""Channels side by side in a register of a TPU, and those of a thread group of a GPU."""


@dataclasses.dataclass(frozen=True)
class Tiling:
    """Attributes:
    form: "blocked" takes one step a token, "associative" log2(T) passes over the whole sequence.
    block: tokens of the blocked form that are summed from zero before the state is added.
    """

    form: Literal["blocked", "associative"]
    block: int = 64


def cpu(rows: int) -> Tiling:
    """By the number of channels a step has, batch times width.

    Gradient on two cores, blocked and associative: 33 and 185 ms at (4, 4096, 256), 1.9 and 5.5 at (8, 256, 256), 12
    and 16 at (1, 4096, 128); but 3.9 and 2.8 at (1, 4096, 64), 10 and 2.8 at (1, 16384, 8), where a step is all
    overhead. The associative form takes seven times the temporary memory.
    """
    return Tiling("blocked" if rows > 64 else "associative")


def default() -> Tiling:
    """Elsewhere: a step a token would be a kernel launch a token on a GPU. Not measured here."""
    return Tiling("associative")


def too_short(time: int) -> str | None:
    """Why None takes no kernel for a sequence of this length, or None.

    Kernels work in groups of 64 rows. A shorter sequence leaves part of the only group empty, while the associative
    form has few passes there, that XLA fuses with what stands around it. Not measured.
    """
    return f"{time} tokens are fewer than a group of {GROUP}" if time < GROUP else None


@dataclasses.dataclass(frozen=True)
class Blocks:
    """What a kernel holds on chip at a time.

    Attributes:
        time: tokens.
        lanes: channels.
    """

    time: int
    lanes: int


VMEM = 16 * 2**20
"""Bytes of VMEM that the TPU kernels may take, on every generation at hand."""


def tpu(batch: int, time: int, width: int, bytes_each: int) -> Blocks:
    """Blocks of a TPU kernel.

    512 tokens, or all of a shorter sequence, and as many channels as fit twice (one block computed, one copied) into
    10 of the 16 MiB. Cells of the grid that run one after the other cost 0.3 us each, so few large blocks; but at
    least two cells side by side, for chips with two cores. A row of up to 128 channels is one block.

    Args:
        batch: rows.
        time: tokens.
        width: channels.
        bytes_each: of a token and channel in all arrays of the kernel together.
    """
    tokens = min(512, _up(time, GROUP))
    if width <= LANES:
        return Blocks(tokens, width)
    fitting = 10 * 2**20 // (2 * tokens * bytes_each)
    lanes = min(_up(width if batch > 1 else -(-width // 2), LANES), max(LANES, fitting // LANES * LANES))
    return Blocks(tokens, lanes)


@dataclasses.dataclass(frozen=True)
class Ring:
    """What a block of the GPU's grid holds in shared memory.

    Attributes:
        time: tokens of a buffer, that divide a group.
        ahead: buffers of each input, all but one on their way while one is computed.
        OUT: buffers of each output.
    """

    time: int
    ahead: int
    OUT: ClassVar[int] = 2


def gpu(complex_numbers: bool, arrays: int) -> Ring:
    """By the number of arrays that are read.

    16 tokens of 128 float32 are 8 KiB, so forward 48 of 80 KiB are on their way and two blocks fit on a multiprocessor;
    backward 48 of 104. The card needs 25 KiB under way on each to keep its memory busy (4.8 TB/s, 0.7 us, 132 of them).
    Not measured.
    """
    return Ring(time=8 if complex_numbers else 16, ahead=4 if arrays == 2 else 3)


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
