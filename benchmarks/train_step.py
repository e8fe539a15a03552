"""A training step of a small hybrid (Gated DeltaNet blocks, then one attention) against transformers' OlmoHybrid.

Same sizes, same batch, AdamW, float32, the step of `memjax.training` as train.py runs it. The two are not the same
network: OlmoHybrid has no positions in its attention and normalises queries and keys over all heads together and
attention outputs after the block; the parameters differ by what `difference` lists.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from benchmarks.report import Result
from memjax.config import OptimizerConfig, TrainConfig
from memjax.layers import GatedMLPConfig
from memjax.mixers import AttentionConfig, GatedDeltaNetConfig
from memjax.models import BlockConfig, LMConfig
from memjax.sharding import make_mesh
from memjax.training.setup import prepare


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of the model and of its batch."""

    batch: int = 4
    time: int = 1024
    width: int = 256
    heads: int = 2
    hidden: int = 768
    vocabulary: int = 512
    recurrent: int = 3
    learning_rate: float = 1e-3

    def __str__(self) -> str:
        return (
            f"{self.recurrent} Gated DeltaNet + 1 attention, width {self.width}, {self.heads} heads of "
            f"{self.width // self.heads}, MLP {self.hidden}, vocabulary {self.vocabulary}, "
            f"B{self.batch} T{self.time}, AdamW, float32"
        )


SHAPE = Shape()


def config_of(shape: Shape) -> TrainConfig:
    """The experiment that the step is taken from."""
    size = shape.width // shape.heads
    mlp = GatedMLPConfig(hidden=shape.hidden)
    recurrent = BlockConfig(GatedDeltaNetConfig(heads=shape.heads, head_dim=size, expand_v=1.0), mlp)
    attention = BlockConfig(
        AttentionConfig(heads=shape.heads, head_dim=size, context=shape.time, rotary_base=None, query_key_norm=True),
        mlp,
    )
    return TrainConfig(
        model=LMConfig(
            vocab_size=shape.vocabulary,
            width=shape.width,
            blocks=(*[recurrent] * shape.recurrent, attention),
            repeats=1,
            tie_embeddings=False,
        ),
        optimizer=OptimizerConfig(learning_rate=shape.learning_rate, warmup_steps=0, weight_decay=0.1, clip=None),
        batch_size=shape.batch,
        loss_chunk=None,
    )


def batch_of(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Random tokens and, as targets, the tokens that follow."""
    rows = np.random.default_rng(0).integers(0, shape.vocabulary, (shape.batch, shape.time + 1), dtype=np.int32)
    return rows[:, :-1], rows[:, 1:]


class Training:
    """memjax's side: `step()` makes one update on the batch and returns the loss."""

    def __init__(self, shape: Shape, tokens: np.ndarray, targets: np.ndarray):
        setup = prepare(config_of(shape), make_mesh(devices=jax.devices()[:1]))
        self._step, self._state = setup.step, setup.initial()
        self._batch = {name: jnp.asarray(x)[None] for name, x in (("tokens", tokens), ("targets", targets))}
        self.parameters = sum(x.size for x in self._state.parameters.values())

    def step(self) -> float:
        self._state, metrics = self._step(self._state, self._batch)
        return float(metrics["loss"])


def run(peer: Callable[[Shape, Any, Any], Any], peer_name: str, rounds: int, shape: Shape = SHAPE) -> Result:
    """Times both sides in turns; `peer(shape, tokens, targets)` has `step` and `parameters` as `Training` has."""
    tokens, targets = batch_of(shape)
    sides = {"memjax": Training(shape, tokens, targets), peer_name: peer(shape, tokens, targets)}
    first = {name: side.step() for name, side in sides.items()}
    seconds = timing.alternate({name: side.step for name, side in sides.items()}, rounds)
    rate = {name: shape.batch * shape.time / timing.median(times) for name, times in seconds.items()}
    row = {
        "training step": "hybrid",
        "memjax tokens/s": rate["memjax"],
        f"{peer_name} tokens/s": rate[peer_name],
        **timing.speed_up(seconds, "memjax", peer_name),
    }
    counts = {name: side.parameters for name, side in sides.items()}
    return Result("train_step", str(shape), [row], _notes(rounds, seconds, first, counts, shape))


def _notes(rounds, seconds, first, counts, shape) -> tuple[str, ...]:
    losses = ", ".join(f"{name} {loss:.3f}" for name, loss in first.items())
    parameters = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    return (
        f"  loss before the first update: {losses}",
        f"  parameters: {parameters}" + (f" ({difference(shape)})" if len(set(counts.values())) > 1 else ""),
        timing.note(rounds, seconds),
    )


def difference(shape: Shape) -> str:
    """Where the parameter counts part: both norms of queries and keys."""
    size = shape.width // shape.heads
    return f"norms of queries and keys: {2 * size} here, one of each head's size; {2 * shape.width} there"
