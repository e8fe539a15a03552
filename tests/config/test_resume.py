"""What may change when a run is resumed."""

import dataclasses

import pytest

from memjax.config import (
    ConfigError,
    EvaluationConfig,
    MeshConfig,
    OptimizerConfig,
    TableOptimizerConfig,
    TrainConfig,
    differences,
    resolve,
    resume,
    resume_conflicts,
)
from memjax.config.resume import MAY_CHANGE
from memjax.data.config import TextData
from memjax.models import LMConfig
from memjax.tasks.mqar import MQARConfig

SAVED = resolve(TrainConfig(steps=100))


def test_resolve_freezes_the_schedule():
    assert SAVED.optimizer.schedule_steps == 100
    assert resolve(SAVED) == SAVED
    asked = TrainConfig(steps=100, optimizer=OptimizerConfig(schedule_steps=40))
    assert resolve(asked) == asked


ALLOWED = [
    {"steps": 300},
    {"output_dir": "moved"},
    {"log_every": 1, "checkpoint_every": 2, "evaluate_every": 3, "keep_checkpoints": 5},
    {"mesh": MeshConfig(fsdp=4)},
    {"tensorboard": True, "wandb": "project"},
    {"evaluation": EvaluationConfig(tasks=(MQARConfig(),), prompt="x")},
]


@pytest.mark.parametrize("change", ALLOWED)
def test_what_may_change_is_taken_from_the_asked(change):
    asked = dataclasses.replace(TrainConfig(steps=100), **change)
    merged = resume(SAVED, asked)
    assert resume_conflicts(SAVED, asked) == []
    assert {name: getattr(merged, name) for name in change} == change
    assert merged.optimizer.schedule_steps == 100  # more steps do not stretch the schedule


REFUSED = [
    ({"seed": 1}, "--seed: 0 -> 1"),
    ({"batch_size": 32}, "--batch-size: 64 -> 32"),
    ({"accumulate": 2}, "--accumulate: 1 -> 2"),
    ({"compute_dtype": "bfloat16"}, "--compute-dtype: 'float32' -> 'bfloat16'"),
    ({"loss_chunk": None}, "--loss-chunk: 512 -> None"),
    ({"init_from": "other"}, "--init-from: None -> 'other'"),
    ({"data": TextData()}, "--data: TaskData -> TextData"),
    ({"model": LMConfig(width=32)}, "--model.width: 64 -> 32"),
    ({"model": LMConfig(blocks=LMConfig().blocks * 2)}, "--model.blocks: (BlockConfig) -> (BlockConfig, BlockConfig)"),
    ({"optimizer": OptimizerConfig(learning_rate=0.5)}, "--optimizer.learning-rate: 0.001 -> 0.5"),
    (
        {"optimizer": OptimizerConfig(table=TableOptimizerConfig(name="sgd"))},
        "--optimizer.table.name: 'adam' -> 'sgd'",
    ),
    ({"optimizer": OptimizerConfig(schedule_steps=300)}, "--optimizer.schedule-steps: 100 -> 300"),
]


@pytest.mark.parametrize(("change", "line"), REFUSED)
def test_anything_else_is_refused_with_its_flag(change, line):
    asked = dataclasses.replace(TrainConfig(steps=300), **change)
    assert resume_conflicts(SAVED, asked) == [line]
    with pytest.raises(ConfigError) as info:
        resume(SAVED, asked)
    assert line in str(info.value)
    assert "--output-dir" in str(info.value)


def test_every_field_is_either_allowed_or_refused():
    refused = {name for change, _ in REFUSED for name in change}
    allowed = {name for change in ALLOWED for name in change}
    assert refused | allowed == {field.name for field in dataclasses.fields(TrainConfig)}
    assert allowed == set(MAY_CHANGE)


def test_all_conflicts_are_listed():
    asked = TrainConfig(steps=100, seed=3, batch_size=8)
    assert resume_conflicts(SAVED, asked) == ["--batch-size: 64 -> 8", "--seed: 0 -> 3"]


def test_a_saved_config_without_a_frozen_schedule_counts_as_its_steps():
    merged = resume(TrainConfig(steps=100), TrainConfig(steps=900))
    assert (merged.steps, merged.optimizer.schedule_steps) == (900, 100)


def test_differences_name_the_field():
    assert differences(TrainConfig(), TrainConfig(optimizer=OptimizerConfig(learning_rate=0.02))) == [
        "optimizer.learning_rate: 0.001 -> 0.02"
    ]
    assert differences(TrainConfig(), TrainConfig()) == []
