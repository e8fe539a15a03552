"""Runs that end, are cut off, resumed, extended, stopped and refused."""

import dataclasses
import json
import os
import signal

import jax
import numpy as np
import pytest

from memjax.data import TaskData, TaskSlice, TextData
from memjax.training import NonFiniteError, fit, loop
from memjax.training.checkpoints import steps_in
from memjax.training.metrics import read_rows
from memjax.training.skeleton import Skeleton, parameters_of
from tests.training.conftest import TASK, change, tiny_config

TIMES = ("seconds", "tokens_per_second")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(directory, result) of the tiny run, not disturbed by anything."""
    directory = tmp_path_factory.mktemp("whole")
    return directory, fit(tiny_config(directory), evaluators=[measure], say=str)


def measure(model, step):
    return {"eval/table": float(np.abs(model.embed.table[...]).sum())}


def rows_of(directory):
    return [{name: value for name, value in row.items() if name not in TIMES} for row in read_rows(directory)]


def assert_same_model(a, b):
    jax.tree.map(np.testing.assert_array_equal, parameters_of(a), parameters_of(b))


def checkpoints(config):
    return steps_in(loop.CheckpointStore(config.output_dir).directory)


def test_a_run_from_end_to_end(whole):
    directory, result = whole
    assert (result.status, result.step) == ("done", 8)
    assert steps_in(directory / "checkpoints") == [6, 8]
    rows = rows_of(directory)
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 9))
    assert [row["step"] for row in rows if "eval/table" in row] == [4, 8]
    assert {"loss", "accuracy", "gradient_norm", "learning_rate", "scored"} <= rows[0].keys()
    assert rows[0]["scored"] == 8 * 2 and set(TIMES) <= read_rows(directory)[0].keys()
    assert json.loads((directory / "config.json").read_text())["optimizer"]["schedule_steps"] == 8


def test_a_finished_run_says_so_and_is_not_evaluated_again(tiny, lines):
    fit(tiny, evaluators=[measure], say=lines.append)
    before, called = rows_of(tiny.output_dir), []
    again = fit(tiny, evaluators=[lambda model, step: called.append(step) or {}], say=lines.append)
    assert (again.status, again.step, called) == ("already done", 8, [])
    more = fit(change(tiny, steps=10), evaluators=[measure], say=lines.append)
    assert (more.status, more.step) == ("done", 10)
    rows = rows_of(tiny.output_dir)
    assert rows[: len(before)] == before and [row["step"] for row in rows[len(before) :]] == [9, 10, 10]
    assert rows[-2]["learning_rate"] == pytest.approx(before[-2]["learning_rate"])  # past the end of its schedule


class PowerCut(Exception):
    pass


def cut(model, step):
    raise PowerCut


@pytest.mark.parametrize("damage", [False, True])
def test_a_run_that_is_cut_off_ends_in_the_same_bits(tiny, whole, lines, damage):
    with pytest.raises(PowerCut):
        fit(change(tiny, checkpoint_every=2), evaluators=[cut], say=lines.append)
    assert checkpoints(tiny) == [2, 4]
    if damage:
        folder = loop.CheckpointStore(tiny.output_dir).directory / "4"
        next(path for path in folder.rglob("*") if path.parent.name == "d").write_bytes(b"")
    resumed = fit(tiny, evaluators=[measure], say=lines.append)
    assert any("damaged" in line for line in lines) == damage
    assert f"going on from step {2 if damage else 4}" in lines
    assert (resumed.status, resumed.step) == ("done", 8)
    assert_same_model(resumed.model, whole[1].model)
    assert rows_of(tiny.output_dir) == rows_of(whole[0])  # the evaluation that was cut off is made up for


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, "stopped"), (signal.SIGINT, "interrupted")])
def test_signals_save_at_the_next_boundary(tiny, whole, number, status):
    def ask(model, step):
        os.kill(os.getpid(), number)
        return measure(model, step)

    stopped = fit(change(tiny, checkpoint_every=100), evaluators=[ask], say=str)
    assert (stopped.status, stopped.step, checkpoints(tiny)) == (status, 4, [4])
    resumed = fit(tiny, evaluators=[measure], say=str)
    assert_same_model(resumed.model, whole[1].model)
    assert rows_of(tiny.output_dir) == rows_of(whole[0])


def test_text_goes_on_at_the_very_token(tiny, tmp_path):
    (tmp_path / "text.txt").write_text("To be, or not to be, that is the question. " * 40)
    data = TextData(path=str(tmp_path / "text.txt"), length=16, cache_dir=str(tmp_path / "cache"))
    config = change(tiny, data=data, **{"model.vocab_size": 257})
    expected = fit(change(config, output_dir=str(tmp_path / "whole")), say=str)
    with pytest.raises(PowerCut):
        fit(config, evaluators=[cut], say=str)
    resumed = fit(config, say=str)
    assert_same_model(resumed.model, expected.model)
    rows = rows_of(config.output_dir)
    assert rows == rows_of(tmp_path / "whole") and "bits_per_byte" in rows[0]


def test_a_number_that_is_not_finite_ends_the_run_with_the_step_and_the_parameter(tiny):
    config = change(tiny, checkpoint_every=1, **{"optimizer.learning_rate": 1e30, "optimizer.warmup_steps": 0})
    for _ in range(2):  # and again on resume
        with pytest.raises(NonFiniteError, match=r"step 2: the gradient of \S+/\S+ .*is not finite") as found:
            fit(config, say=str)
        assert found.value.step == 2 and found.value.parameter in Skeleton.of(config.model).abstract
        assert checkpoints(config) == [1]
    assert [row["step"] for row in rows_of(config.output_dir)] == [1]


def test_a_new_run_from_the_weights_of_another(tiny, whole, tmp_path, lines):
    config = change(tiny, steps=1, init_from=str(whole[0]), **{"optimizer.learning_rate": 1e-12})
    result = fit(config, say=lines.append)
    assert f"starting from the weights of {whole[0]}, step 8" in lines and result.step == 1
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-9),
        parameters_of(result.model),
        parameters_of(whole[1].model),
    )
    wider = change(config, output_dir=str(tmp_path / "wider"), **{"model.width": 12})
    with pytest.raises(ValueError, match=r"parameter \S+ has shape"):
        fit(wider, say=str)
    assert not (tmp_path / "wider" / "config.json").exists()


def test_bad_data_leaves_no_directory(tiny, tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        fit(change(tiny, data=TextData(path=str(tmp_path / "missing.txt"))), say=str)
    assert not (tmp_path / "run").exists()


def test_metrics_are_read_one_step_late_but_before_a_save(tiny, monkeypatch):
    events = []

    def record(name, function):
        return lambda *arguments: events.append(name) or function(*arguments)

    prepare = loop.prepare
    monkeypatch.setattr(loop, "prepare", lambda *a: (s := prepare(*a))._replace(step=record("dispatch", s.step)))
    monkeypatch.setattr(loop, "check_step", record("read", loop.check_step))
    monkeypatch.setattr(loop.CheckpointStore, "save", record("save", loop.CheckpointStore.save))
    fit(change(tiny, steps=5), say=str)
    assert " ".join(events) == (
        "dispatch dispatch read dispatch read read save dispatch dispatch read read save"  # saves after steps 3 and 5
    )


@pytest.mark.slow
def test_a_mixture_of_lengths_resumes_in_the_same_bits(tiny, tmp_path):
    lengths = tuple(TaskSlice(task=dataclasses.replace(TASK, length=length), examples=16) for length in (16, 12))
    config = change(tiny, data=TaskData(train=lengths))
    expected = fit(change(config, output_dir=str(tmp_path / "whole")), say=str)
    with pytest.raises(PowerCut):
        fit(config, evaluators=[cut], say=str)
    assert_same_model(fit(config, say=str).model, expected.model)


def test_a_run_goes_on_another_mesh(tiny, whole):
    with pytest.raises(PowerCut):
        fit(change(tiny, checkpoint_every=4), evaluators=[cut], say=str)
    result = fit(change(tiny, **{"mesh.fsdp": 4}), evaluators=[measure], say=str)
    assert result.status == "done" and not result.model.embed.table[...].sharding.is_fully_replicated
    losses = ([row["loss"] for row in rows_of(path) if "loss" in row] for path in (tiny.output_dir, whole[0]))
    np.testing.assert_allclose(*losses, rtol=1e-5)
