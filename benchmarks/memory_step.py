"""A whole training step with a memory layer, over the size of its table, next to a dense MLP of equal active FLOPs.

One block: a small LRU, then a Memory+ layer whose table is trained by the rows that a step reads, or a gated MLP with
as many hidden channels as make the same number of FLOPs a token. What grows with the table is the number of sub-keys,
its square root; rows that are not read cost memory only. "us/row" is the step's time over the distinct rows it read.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np

from benchmarks import timing
from benchmarks.report import Result
from memjax.config import OptimizerConfig, TableOptimizerConfig, TrainConfig
from memjax.layers import GatedMLPConfig
from memjax.mixers import LRUConfig, MemoryPlusConfig
from memjax.models import BlockConfig, LMConfig
from memjax.sharding import make_mesh
from memjax.training.setup import prepare
from memjax.training.skeleton import Skeleton
from memjax.types import MixerConfig


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes: rows of a batch, their length, width D, heads and rows a head reads, vocabulary; and the sub-keys, whose
    squares are the table's rows, to go through with each optimizer. 16M rows of 64 with Adam are 12 GiB."""

    batch: int = 8
    time: int = 512
    width: int = 64
    heads: int = 4
    topk: int = 32
    vocabulary: int = 256
    subkeys: tuple[tuple[Literal["adam", "adagrad"], tuple[int, ...]], ...] = (
        ("adam", (512, 1024, 2048)),
        ("adagrad", (512, 1024, 2048, 4096)),
    )

    def __str__(self) -> str:
        return f"{self.batch * self.time} tokens, rows of {self.width}, {self.heads * self.topk} reads, float32"


SHAPE = Shape()


def model_of(shape: Shape, mlp: MixerConfig | None) -> LMConfig:
    """The model of which a step is timed."""
    block = BlockConfig(LRUConfig(state_size=16), mlp)
    return LMConfig(vocab_size=shape.vocabulary, width=shape.width, blocks=(block,), repeats=1)


def config_of(shape: Shape, mlp: MixerConfig, optimizer: Literal["adam", "adagrad"]) -> TrainConfig:
    """The run of which a step is timed."""
    table = TableOptimizerConfig(name=optimizer)
    return TrainConfig(model=model_of(shape, mlp), batch_size=shape.batch, optimizer=OptimizerConfig(table=table))


def build(shape: Shape, mlp: MixerConfig, optimizer: Literal["adam", "adagrad"]) -> tuple[Callable[[], None], dict]:
    """(one step, what it reported). The state goes from step to step."""
    config, mesh = config_of(shape, mlp, optimizer), make_mesh()
    tokens = np.random.default_rng(0).integers(0, shape.vocabulary, (1, shape.batch, shape.time), dtype=np.int32)
    batch = {"tokens": tokens, "targets": np.roll(tokens, -1, 2), "segment_ids": np.ones_like(tokens)}
    setup = prepare(config, mesh)
    held, reported = [setup.initial()], {}

    def once() -> None:
        held[0], metrics = setup.step(held[0], batch)
        reported.update(jax.device_get(metrics))

    once()  # compiles
    return once, reported


def run(rounds: int, shape: Shape = SHAPE) -> Result:
    """Times the steps of all table sizes of an optimizer, and of their dense twins, in turns."""
    rows = []
    for optimizer, sizes in shape.subkeys:
        steps, reports = {}, {}
        for count in sizes:
            memory = _memory(shape, count)
            for name, mlp in ((count, memory), (f"dense {count}", _dense(shape, memory))):
                steps[str(name)], reports[str(name)] = build(shape, mlp, optimizer)
        seconds = timing.alternate(steps, rounds)
        rows += [_row(shape, optimizer, count, sizes[0], seconds, reports) for count in sizes]
    return Result("memory_step", f"a training step over the size of a memory layer's table: {shape}", rows)


def _memory(shape: Shape, subkeys: int) -> MemoryPlusConfig:
    return MemoryPlusConfig(heads=shape.heads, topk=shape.topk, subkeys=subkeys, usage=False)


def _dense(shape: Shape, memory: MemoryPlusConfig) -> GatedMLPConfig:
    """The MLP with the hidden channels that cost as many FLOPs a token: 6 D each."""
    flops = lambda mlp: Skeleton.of(model_of(shape, mlp)).flops_per_token(shape.time)
    return GatedMLPConfig(hidden=max(1, round((flops(memory) - flops(None)) / (6 * shape.width))))


def _row(shape: Shape, optimizer: str, count: int, first: int, seconds: timing.Seconds, reports) -> dict[str, Any]:
    ms = lambda name: 1e3 * timing.median(seconds[str(name)])
    each = lambda name: 1e3 * ms(name) / int(reports[str(name)]["table_rows"])
    return {
        "rows": count**2,
        "optimizer": optimizer,
        "ms": ms(count),
        "distinct rows": int(reports[str(count)]["table_rows"]),
        "us/row": each(count),
        "over the smallest": each(count) / each(first),
        "dense ms": ms(f"dense {count}"),
        "over dense": timing.speed_up(seconds, f"dense {count}", str(count))["speed-up"],
        "dense hidden": _dense(shape, _memory(shape, count)).hidden,
    }
