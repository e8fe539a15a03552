"""Configurations that cannot work are refused by name before anything is built."""

import dataclasses

import pytest

from memjax.config import (
    ConfigError,
    EvaluationConfig,
    MeshConfig,
    OptimizerConfig,
    TableOptimizerConfig,
    TrainConfig,
    validate,
)
from memjax.config.fields import leaves
from memjax.config.validation import _BOUNDS
from memjax.data.config import DigitData, TaskData, TaskSlice, TextData
from memjax.models import LMConfig, SequenceConfig
from memjax.tasks.linear_functional import LinearFunctionalConfig
from memjax.tasks.mqar import MQARConfig

GOOD = TrainConfig(model=LMConfig(vocab_size=8192))
FUNCTIONAL = TaskData(train=(TaskSlice(LinearFunctionalConfig()),))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"steps": 0},
        {"optimizer": OptimizerConfig(clip=None, learning_rate=1.0)},
        {"mesh": MeshConfig(data=-1)},
        {"mesh": MeshConfig(data=2, fsdp=4, tensor=2)},
        {"batch_size": 96, "accumulate": 3, "mesh": MeshConfig(data=2)},
        {"model": LMConfig(), "data": TextData()},
        {"evaluation": EvaluationConfig(tasks=(MQARConfig(), MQARConfig(pairs=8), MQARConfig()))},
        {"model": SequenceConfig(), "data": FUNCTIONAL},
        {"model": SequenceConfig(outputs=10, pool="last"), "data": DigitData()},
    ],
)
def test_what_works_passes(change):
    validate(dataclasses.replace(GOOD, **change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": -1}, "--steps must not be negative"),
        ({"batch_size": 0}, "--batch-size must be positive"),
        ({"log_every": 0}, "--log-every"),
        ({"keep_checkpoints": 1}, "--keep-checkpoints"),
        ({"loss_chunk": 0}, "--loss-chunk"),
        ({"output_dir": ""}, "--output-dir"),
        ({"batch_size": 64, "accumulate": 5}, "no multiple of --accumulate 5"),
        ({"optimizer": OptimizerConfig(learning_rate=float("nan"))}, "--optimizer.learning-rate"),
        ({"optimizer": OptimizerConfig(b2=1.0)}, "--optimizer.b2"),
        ({"optimizer": OptimizerConfig(clip=0.0)}, "--optimizer.clip"),
        ({"optimizer": OptimizerConfig(table=TableOptimizerConfig(eps=0.0))}, "--optimizer.table.eps"),
        ({"optimizer": OptimizerConfig(table=TableOptimizerConfig(clip=-1.0))}, "--optimizer.table.clip"),
        ({"optimizer": OptimizerConfig(table=TableOptimizerConfig(b1=1.0))}, "--optimizer.table.b1"),
        ({"optimizer": OptimizerConfig(table=TableOptimizerConfig(warmup_steps=-1))}, "--optimizer.table.warmup-steps"),
        ({"mesh": MeshConfig(data=0)}, "--mesh.data"),
        ({"mesh": MeshConfig(sequence=2)}, "--mesh.sequence"),
        ({"mesh": MeshConfig(data=-1, fsdp=-1)}, "only one axis"),
        ({"mesh": MeshConfig(data=3)}, "--mesh.data 3"),
        ({"accumulate": 16, "mesh": MeshConfig(data=4, fsdp=2)}, "micro-batch of 4 rows"),
        ({"model": LMConfig(vocab_size=8192, blocks=())}, "blocks"),
        ({"model": LMConfig(vocab_size=256)}, "--data.train.0.task.vocab-size 8192"),
        (
            {"evaluation": EvaluationConfig(tasks=(MQARConfig(vocab_size=9000),))},
            "--evaluation.tasks.0.vocab-size 9000",
        ),
        ({"data": TaskData(train=(TaskSlice(), TaskSlice(MQARConfig(vocab_size=8194))))}, "--data.train.1"),
        (
            {"evaluation": EvaluationConfig(tasks=(MQARConfig(), MQARConfig(random_non_queries=False)))},
            "two different settings are both mqar {'pairs': 4, 'length': 64}",
        ),
        ({"data": FUNCTIONAL}, "LinearFunctionalConfig has real-valued rows: the model must be a SequenceConfig"),
        ({"data": DigitData()}, "DigitData has real-valued rows"),
        ({"model": SequenceConfig()}, "hold tokens"),
        ({"model": SequenceConfig(features=3), "data": FUNCTIONAL}, "--model.features must be 1"),
        ({"model": SequenceConfig(features=0), "data": FUNCTIONAL}, "--model.features must be positive"),
        ({"model": SequenceConfig(pool="mean"), "data": FUNCTIONAL}, "--model.pool must be None"),
        ({"model": SequenceConfig(outputs=10), "data": DigitData()}, "--model.pool must be mean or last"),
    ],
)
def test_what_cannot_work_is_named(change, words):
    with pytest.raises(ConfigError) as info:
        validate(dataclasses.replace(GOOD, **change))
    assert words in str(info.value)
    assert "\n" not in str(info.value)


def test_every_bound_is_of_a_field_that_exists():
    known = {leaf.name for config in (TrainConfig(), TrainConfig(model=SequenceConfig())) for leaf in leaves(config)}
    assert set(_BOUNDS) <= known
