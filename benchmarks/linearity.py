"""How the time of the op's forward + backward grows with the length of the sequence."""

import dataclasses

from benchmarks import op, timing
from benchmarks.report import Result


def run(rounds: int, shape: op.Shape = op.SHAPE, lengths: tuple[int, int] = (1024, 8192)) -> Result:
    """Times both lengths in turns."""
    sides = {}
    for length in lengths:
        arrays, cotangent = op.inputs(dataclasses.replace(shape, time=length))
        sides[str(length)] = op.build(arrays, cotangent, differentiate=True)[0]
    seconds = timing.alternate(sides, rounds)
    short, long = (timing.median(seconds[str(length)]) for length in lengths)
    rows = [
        {"tokens": str(length), "ms": 1e3 * time, "ns a token": 1e9 * time / length / shape.batch}
        for length, time in zip(lengths, (short, long), strict=True)
    ]
    growth = f"{lengths[1] // lengths[0]} times the tokens take {long / short:.2f} times the time"
    title = f"gated delta rule, forward + backward, B{shape.batch} H{shape.heads} K=V={shape.size} float32"
    return Result("linearity", title, rows, (f"  {growth}", timing.note(rounds, seconds)))
