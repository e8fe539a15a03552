"""Two finished runs, as small as they come: one on recall, one on text."""

from pathlib import Path

import pytest

from memjax.config import EvaluationConfig, OptimizerConfig, TrainConfig
from memjax.data import TaskData, TaskSlice, TextData
from memjax.mixers import AttentionConfig
from memjax.models import BlockConfig, LMConfig
from memjax.tasks.mqar import MQARConfig
from memjax.training import fit


def small_model(vocab_size: int) -> LMConfig:
    """One attention layer of width 16: evaluation is the same for any mixer, and this one compiles fastest."""
    block = BlockConfig(mixer=AttentionConfig(heads=1), mlp=None)
    return LMConfig(vocab_size=vocab_size, width=16, blocks=(block,), repeats=1)


def small_task(pairs: int = 2, length: int = 16) -> MQARConfig:
    return MQARConfig(vocab_size=16, length=length, pairs=pairs, random_non_queries=False)


def small_config(**changes) -> TrainConfig:
    """Three steps; `changes` are fields of TrainConfig."""
    fields = {
        "steps": 3,
        "batch_size": 8,
        "log_every": 1,
        "checkpoint_every": 3,
        "evaluate_every": 3,
        "optimizer": OptimizerConfig(learning_rate=1e-2, warmup_steps=0),
    }
    return TrainConfig(**(fields | changes))


def task_config(output_dir: Path, **changes) -> TrainConfig:
    fields = {
        "output_dir": str(output_dir),
        "model": small_model(16),
        "data": TaskData(train=(TaskSlice(small_task()),)),
        "evaluation": EvaluationConfig(tasks=(small_task(1), small_task(2), small_task(2, 32)), examples=20),
    }
    return small_config(**(fields | changes))


def text_config(output_dir: Path, text: Path, **changes) -> TrainConfig:
    fields = {
        "output_dir": str(output_dir),
        "model": small_model(257),
        "data": TextData(path=str(text), length=32, cache_dir=str(output_dir.parent / "cache")),
        "evaluation": EvaluationConfig(batches=1, prompt="ab", sample_steps=5),
    }
    return small_config(**(fields | changes))


@pytest.fixture(scope="session")
def text_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("text") / "story.txt"
    path.write_text("".join(f"line {i} says é and goes on.\n" for i in range(200)))
    return path


@pytest.fixture(scope="session")
def task_run(tmp_path_factory):
    """(directory, model as trained, configuration) of a run on recall."""
    config = task_config(tmp_path_factory.mktemp("runs") / "recall")
    return Path(config.output_dir), fit(config, say=lambda line: None).model, config


@pytest.fixture(scope="session")
def text_run(tmp_path_factory, text_file):
    """(directory, model as trained, configuration) of a run on text."""
    config = text_config(tmp_path_factory.mktemp("runs") / "prose", text_file)
    return Path(config.output_dir), fit(config, say=lambda line: None).model, config


@pytest.fixture
def task_run_copy(task_run, tmp_path) -> Path:
    """A copy of the run on recall, to damage or to write into."""
    import shutil

    return Path(shutil.copytree(task_run[0], tmp_path / "recall"))
