"""A run small enough to train in a test, and a line collector in place of print."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import pytest
from flax import nnx

from memjax.config import OptimizerConfig, TrainConfig, register
from memjax.data import TaskData, TaskSlice
from memjax.layers.linear import Linear
from memjax.models import BlockConfig, LMConfig
from memjax.tasks.mqar import MQARConfig
from memjax.types import MixerConfig, MixerOutput


@register
@dataclasses.dataclass(frozen=True)
class RunningMeanConfig(MixerConfig):
    """The mixer that compiles fastest."""

    def make(self, width: int, *, rngs: nnx.Rngs) -> "RunningMean":
        return RunningMean(width, rngs=rngs)


class RunningMean(nnx.Module):
    """A projection of the mean of everything so far. No state: only ever called on whole rows."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.query = Linear(width, width, rngs=rngs)

    def init_state(self, batch_size: int) -> tuple:
        return ()

    def __call__(self, x, state=None, *, segment_ids=None, key=None) -> MixerOutput:
        count = jnp.arange(1, x.shape[1] + 1, dtype=x.dtype)[None, :, None]
        return MixerOutput(self.query(jnp.cumsum(x, 1) / count), (), {})


TASK = MQARConfig(vocab_size=32, length=16, pairs=2)
MODEL = LMConfig(vocab_size=32, width=8, repeats=1, blocks=(BlockConfig(mixer=RunningMeanConfig(), mlp=None),))


@pytest.fixture
def tiny(tmp_path: Path) -> TrainConfig:
    """A run of eight steps; every test of the loop uses this shape, so that it compiles once."""
    return tiny_config(tmp_path / "run")


def tiny_config(output_dir: Path | str) -> TrainConfig:
    return TrainConfig(
        output_dir=str(output_dir),
        steps=8,
        batch_size=8,
        log_every=1,
        checkpoint_every=3,
        evaluate_every=4,
        model=MODEL,
        data=TaskData(train=(TaskSlice(task=TASK),)),
        optimizer=OptimizerConfig(warmup_steps=2, learning_rate=1e-2),
    )


def change(config: TrainConfig, **values) -> TrainConfig:
    """change(config, steps=9, **{"optimizer.clip": None}): the configuration with other values."""
    for name, value in values.items():
        outer, _, inner = name.rpartition(".")
        inside = dataclasses.replace(getattr(config, outer), **{inner: value}) if outer else value
        config = dataclasses.replace(config, **{outer or name: inside})
    return config


@pytest.fixture
def lines() -> list[str]:
    """What was said; pass `lines.append` as `say`."""
    return []
