"""Runs on real-valued rows from end to end: trained, resumed in the same bits, evaluated, reported."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from memjax.config import ConfigError, EvaluationConfig, OptimizerConfig, TrainConfig
from memjax.data import DigitData, TaskData, TaskSlice
from memjax.evaluation import check_request, evaluate_run, evaluators, sample
from memjax.evaluation.runs import load_run, read_metrics
from memjax.evaluation.sequences import classification, regression
from memjax.mixers import AttentionConfig
from memjax.models import BlockConfig, SequenceConfig
from memjax.tasks.linear_functional import LinearFunctionalConfig
from memjax.training import fit
from memjax.training.skeleton import Skeleton, parameters_of
from memjax.training.step import make_gradients
from tests.data.test_digits import write_digits

TASK = LinearFunctionalConfig(length=12)
BLOCKS = (BlockConfig(mixer=AttentionConfig(heads=1, context=16), mlp=None),)


def config_of(output_dir, **changes):
    fields = {
        "output_dir": str(output_dir),
        "model": SequenceConfig(width=8, blocks=BLOCKS, repeats=1),
        "data": TaskData(train=(TaskSlice(TASK),)),
        "steps": 4,
        "batch_size": 8,
        "log_every": 1,
        "checkpoint_every": 2,
        "evaluate_every": 4,
        "optimizer": OptimizerConfig(learning_rate=1e-2, warmup_steps=0, schedule_steps=100),
        "evaluation": EvaluationConfig(examples=20),
    }
    return TrainConfig(**(fields | changes))


@pytest.fixture
def digits(tmp_path):
    write_digits(tmp_path)
    data = DigitData(path=str(tmp_path), size=14, held_out=10)
    return config_of(tmp_path / "run", data=data, model=SequenceConfig(outputs=10, pool="mean", width=8, blocks=BLOCKS))


def test_regression_trains_resumes_and_is_reported(tmp_path):
    config = config_of(tmp_path / "run")
    whole = fit(config, evaluators=evaluators(config), say=str)
    rows = read_metrics(config.output_dir)
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4]
    assert rows[0]["scored"] == 8 * 12 and "accuracy" not in rows[0]
    assert rows[-1]["eval/mse"] == rows[-1]["eval/linear_functional/memory=polynomial,length=12/mse"] > 0
    split = dataclasses.replace(config, output_dir=str(tmp_path / "split"))
    assert fit(dataclasses.replace(split, steps=2), say=str).step == 2
    resumed = fit(split, say=str)
    jax.tree.map(np.testing.assert_array_equal, parameters_of(whole.model), parameters_of(resumed.model))
    said = []
    report = evaluate_run(config.output_dir, say=said.append)
    (row,) = report["results"]
    assert row["mse"] == pytest.approx(rows[-1]["eval/mse"], rel=1e-5) and row["relative_mse"] < 2
    assert any("mean squared error" in line for line in said)
    assert (tmp_path / "run" / "report.png").read_bytes().startswith(b"\x89PNG")
    assert sample(whole.model, config) == ""
    for name in ("decoding", "extrapolation"):  # there are no tokens
        with pytest.raises(ConfigError, match=f"unknown task '{name}'"):
            check_request(config.output_dir, names=[name])


@pytest.mark.slow
def test_the_loss_is_the_tasks_own_metric_and_micro_batches_add_up(tmp_path):
    from memjax.tasks import linear_functional

    config = config_of(tmp_path)
    skeleton = Skeleton.of(config.model)
    model = fit(config, say=str).model
    rows = linear_functional.generate(np.random.default_rng(0), 8, TASK)
    rows["mask"] = (np.arange(12) < np.arange(8)[:, None]).astype(np.float32)  # very different numbers of scored tokens
    parts = []
    for accumulate in (1, 4):
        batch = {name: x.reshape(accumulate, -1, *x.shape[1:]) for name, x in rows.items()}
        settings = dataclasses.replace(config, accumulate=accumulate)
        parts.append(jax.jit(make_gradients(settings, skeleton))(parameters_of(model), batch, None))
    (gradients, metrics), (again, summed) = parts
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), gradients, again)
    expected = linear_functional.score(model(jax.numpy.asarray(rows["inputs"])).outputs, rows, TASK)["mse"]
    assert metrics["loss"] == pytest.approx(expected, rel=1e-4) == summed["loss"]
    assert metrics["scored"] == rows["mask"].sum() and metrics["tokens"] == 8 * 12


@pytest.mark.slow
def test_the_last_batch_counts_no_row_twice(tmp_path):
    model = fit(config_of(tmp_path), say=str).model
    even, uneven = (regression(model, TASK, examples=20, batch_size=size) for size in (20, 7))
    assert even["mse"] == pytest.approx(uneven["mse"], rel=1e-5)


@pytest.mark.slow
def test_pictures_are_learned_and_reported(digits, tmp_path):
    config = dataclasses.replace(digits, steps=30, checkpoint_every=30, evaluate_every=30, batch_size=25)
    fit(config, evaluators=evaluators(config), say=str)
    rows = read_metrics(config.output_dir)
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[0] == pytest.approx(np.log(10), rel=0.5) and losses[-1] < 0.9 * losses[0]
    assert rows[0]["scored"] == 25 and rows[0]["accuracy"] <= 1
    report = evaluate_run(config.output_dir, say=str)
    (row,) = report["results"]
    assert (row["task"], row["length"], row["examples"], row["chance"]) == ("digits", 196, 10, 0.1)
    assert row["accuracy"] == pytest.approx(rows[-1]["eval/accuracy"])
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == report
    model, loaded = load_run(config.output_dir)
    assert loaded.data == config.data
    smaller = dataclasses.replace(config, evaluation=EvaluationConfig(batch_size=3))
    assert classification(model, smaller)["accuracy"] == row["accuracy"]
