import json
import shutil

import jax
import numpy as np
import pytest
from flax import nnx

from memjax.evaluation import load_run
from memjax.evaluation.runs import load_step, read_metrics


def leaves(model):
    return jax.tree.leaves(nnx.state(model))


def test_gives_back_the_trained_parameters_and_the_config(task_run):
    directory, trained, config = task_run
    model, loaded, step = load_step(directory)
    assert step == 3
    assert loaded.model == config.model and loaded.data == config.data
    for found, wanted in zip(leaves(model), leaves(trained), strict=True):
        np.testing.assert_array_equal(found, wanted)


def empty(checkpoint):
    for file in checkpoint.rglob("*"):
        if file.is_file():
            file.write_bytes(b"")


def test_takes_the_newest_checkpoint_that_is_intact(task_run_copy, capsys):
    newest = task_run_copy / "checkpoints" / "3"
    before = shutil.copytree(newest, task_run_copy / "checkpoints" / "2")
    empty(newest)
    assert load_step(task_run_copy)[2] == 2
    assert "checkpoints/3 is damaged" in capsys.readouterr().err
    empty(before)
    with pytest.raises(ValueError, match="no intact checkpoint") as raised:
        load_run(task_run_copy)
    assert "\n" not in str(raised.value)


def test_says_what_is_not_a_run(tmp_path, task_run_copy):
    with pytest.raises(FileNotFoundError, match="no such run directory"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        load_run(tmp_path)
    shutil.rmtree(task_run_copy / "checkpoints")
    with pytest.raises(FileNotFoundError, match="holds no checkpoint") as raised:
        load_run(task_run_copy)
    assert "\n" not in str(raised.value)


def test_never_builds_a_class_from_outside_the_library(task_run_copy):
    path = task_run_copy / "config.json"
    content = json.loads(path.read_text())
    content["model"]["class"] = "subprocess:Popen"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="Popen") as raised:
        load_run(task_run_copy)
    assert "\n" not in str(raised.value)


def test_a_row_of_metrics_that_was_cut_off_is_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 2.0}]
    assert read_metrics(tmp_path / "nowhere") == []
