"""train.py as a user runs it: killed at bad moments, stopped politely, given bad input."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import train
from memjax.evaluation import load_run
from memjax.training.checkpoints import steps_in
from memjax.training.metrics import read_rows
from memjax.training.skeleton import parameters_of

ROOT = Path(__file__).resolve().parent.parent
STEPS = 480
CONFIG = f"""
from memjax.config import EvaluationConfig, OptimizerConfig, TrainConfig
from memjax.data import TaskData, TaskSlice
from memjax.mixers import AttentionConfig
from memjax.models import BlockConfig, LMConfig
from memjax.tasks.mqar import MQARConfig

def get_config():
    block = BlockConfig(mixer=AttentionConfig(heads=2, context=16), mlp=None)
    return TrainConfig(
        model=LMConfig(vocab_size=32, width=8, repeats=1, blocks=(block,)),
        data=TaskData(train=(TaskSlice(task=MQARConfig(vocab_size=32, length=16, pairs=2)),)),
        steps={STEPS}, batch_size=8, log_every=1, checkpoint_every=40, evaluate_every=200,
        optimizer=OptimizerConfig(warmup_steps=5, learning_rate=1e-2), evaluation=EvaluationConfig(examples=8),
    )
"""


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.py"
    path.write_text(CONFIG)
    return path


@contextlib.contextmanager
def started(config_file, run_dir):
    """train.py in a process of its own, gone when the context ends."""
    command = [sys.executable, ROOT / "train.py", config_file, "--output-dir", run_dir]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def finish(process):
    out, errors = process.communicate(timeout=100)
    return process.returncode, out, errors


def whole(config_file, run_dir):
    """Exit status, output and errors of a process that nobody disturbs."""
    with started(config_file, run_dir) as process:
        return finish(process)


def wait_until(process, condition):
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)  # looking is work too: as long as this, it takes a core from what it waits for


def last_step(run_dir):
    return max((row["step"] for row in read_rows(run_dir)), default=0)


@pytest.fixture(scope="module")
def reference(config_file, tmp_path_factory):
    """The run that nobody disturbed."""
    run_dir = tmp_path_factory.mktemp("reference") / "run"
    status, out, errors = whole(config_file, run_dir)
    assert (status, errors) == (0, "") and f"done: {STEPS} steps" in out
    return run_dir


def assert_same_run(run_dir, reference):
    ours, theirs = (parameters_of(load_run(path)[0]) for path in (run_dir, reference))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    times = ("seconds", "tokens_per_second")
    ours, theirs = (
        [{k: v for k, v in row.items() if k not in times} for row in read_rows(p)] for p in (run_dir, reference)
    )
    assert ours == theirs


# Each process starts Python, JAX and a compilation anew: a few seconds, many on a busy machine.
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_run_killed_and_stopped_again_and_again_ends_in_the_same_bits(config_file, reference, tmp_path):
    run_dir, folder = tmp_path / "run", tmp_path / "run" / "checkpoints"
    passed = lambda step: lambda: last_step(run_dir) >= step
    saving = lambda: last_step(run_dir) >= 160 and any("tmp" in name for name in os.listdir(folder))
    asked_twice = [signal.SIGINT, signal.SIGINT]
    for moment, signals, status in (
        (passed(5), [signal.SIGKILL], -signal.SIGKILL),  # before the first checkpoint
        (passed(100), [signal.SIGTERM], 0),
        (saving, [signal.SIGKILL], -signal.SIGKILL),
        (passed(240), asked_twice, 130),
        (passed(330), [signal.SIGKILL], -signal.SIGKILL),
    ):
        with started(config_file, run_dir) as process:
            wait_until(process, moment)
            for number in signals:
                process.send_signal(number)
                time.sleep(0.003)  # two of a kind at once would count as one
            found, out, errors = finish(process)
        assert found == status and (errors == "" or status == -signal.SIGKILL), errors
        if status == 0:
            assert f"stopped and saved at step {steps_in(folder)[-1]};" in out
    status, out, errors = whole(config_file, run_dir)
    assert (status, errors) == (0, "") and "going on from step" in out
    assert steps_in(folder) == [STEPS - 40, STEPS]
    assert_same_run(run_dir, reference)


@pytest.mark.slow  # for the run that it looks at
def test_bad_input_is_one_line_and_a_status(config_file, reference, tmp_path, capsys):
    task = "TaskSlice(task=MQARConfig(vocab_size=32, length=16, pairs=2)),)"
    text = tmp_path / "text.py"
    text.write_text(
        CONFIG.replace(f"TaskData(train=({task})", "TextData(path='/nowhere/text.txt')").replace(
            "import TaskData,", "import TextData,"
        )
    )
    cases = [
        ([], 2, "config file"),
        (["missing.py"], 2, "missing.py"),
        ([str(config_file), "--optimizer.learnin-rate", "1"], 2, "--optimizer.learning-rate"),
        ([str(config_file), "--batch-size", "7", "--accumulate", "2"], 2, "--batch-size 7"),
        ([str(config_file), "--output-dir", str(reference), "--seed", "5"], 1, "--seed: 0 -> 5"),
        ([str(text), "--output-dir", str(tmp_path / "run")], 1, "/nowhere/text.txt"),
        ([str(config_file), "--output-dir", str(tmp_path / "run"), "--init-from", str(tmp_path)], 1, str(tmp_path)),
    ]
    for arguments, status, words in cases:
        assert train.main(arguments) == status, arguments
        errors = capsys.readouterr().err
        assert errors.startswith("error: ") and words in errors and errors.count("\n") == 1
    assert not list((tmp_path / "run").glob("*.json*"))
