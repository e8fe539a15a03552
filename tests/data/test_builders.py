"""Every task as a tfds dataset, written and read without TensorFlow."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from memjax import tasks
from memjax.data.builders import MemjaxTask, TaskBuilderConfig, task_builder
from memjax.tasks import mad_in_context_recall
from memjax.tasks.mad_in_context_recall import MADInContextRecallConfig
from memjax.tasks.mqar import MQARConfig

SMALL = MQARConfig(vocab_size=64, length=16, pairs=2)


@pytest.fixture(autouse=True)
def quiet():
    tfds.disable_progress_bar()


def test_every_task_is_a_builder_config():
    assert {c.name: c.task for c in MemjaxTask.BUILDER_CONFIGS} == {
        n: m.Config() for n, m in (tasks.TASKS | tasks.CONTINUOUS).items()
    }


@pytest.mark.parametrize("name", sorted(tasks.TASKS))
def test_written_and_read(tmp_path, name):
    config = tasks.TASKS[name].Config()
    builder: Any = task_builder(config, data_dir=str(tmp_path), train_examples=30, test_examples=5)
    reader: Any = tfds.builder_from_directory(builder.data_dir)
    test = reader.as_data_source("test")
    expected = tasks.TASKS[name].generate(np.random.default_rng((1, 0)), 5, config)
    rows = {row["tokens"].tobytes(): row for row in test}  # tfds stores rows in an order of its own
    assert len(rows) == len(test) == 5
    for tokens, targets in zip(expected["tokens"], expected["targets"], strict=True):
        row = rows[tokens.tobytes()]
        assert row["tokens"].dtype == row["targets"].dtype == np.int32
        np.testing.assert_array_equal(row["targets"], targets)
    assert len(builder.as_data_source("train[:10]")) == 10


def test_a_split_holds_the_rows_of_the_tasks_own_split(tmp_path):
    config = MADInContextRecallConfig(vocab_size=16, length=16)  # its default is "test": values of keys seen before
    builder: Any = task_builder(config, data_dir=str(tmp_path), train_examples=4, test_examples=4)
    scored = {
        split: [(row["targets"] >= 0).mean() for row in builder.as_data_source(split)] for split in ("train", "test")
    }
    assert min(scored["train"]) > 0.9 and max(scored["test"]) < 0.5
    for split, seed in (("train", 0), ("test", 1)):
        own = mad_in_context_recall.generate(np.random.default_rng((seed, 0)), 4, tasks.in_split(config, split))
        assert sorted(row["targets"].tolist() for row in builder.as_data_source(split)) == sorted(
            own["targets"].tolist()
        )


def test_by_name(tmp_path, monkeypatch):
    small = [TaskBuilderConfig(name="mqar", description="small", task=SMALL, train_examples=3, test_examples=2)]
    monkeypatch.setattr(MemjaxTask, "BUILDER_CONFIGS", small)
    monkeypatch.setattr(MemjaxTask, "builder_configs", {"mqar": small[0]})
    assert len(tfds.data_source("memjax_task/mqar", split="test", data_dir=tmp_path)) == 2
    # another process reads it from disk, without memjax and without TensorFlow
    program = (
        "import sys, tensorflow_datasets as tfds; "
        f"rows = tfds.data_source('memjax_task/mqar', split='train', data_dir={str(tmp_path)!r}); "
        "print(len(rows), rows[0]['tokens'].shape, 'memjax' in sys.modules, 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.strip() == "3 (16,) False False"
    assert "tensorflow" not in sys.modules


def test_other_settings_get_another_name(tmp_path):
    first = task_builder(SMALL, data_dir=str(tmp_path), train_examples=2, test_examples=1)
    again = task_builder(SMALL, data_dir=str(tmp_path), train_examples=2, test_examples=1)
    other = task_builder(SMALL, data_dir=str(tmp_path), train_examples=3, test_examples=1)
    assert first.data_dir == again.data_dir != other.data_dir
    assert "mqar_pairs2_length16" in str(first.data_dir)
