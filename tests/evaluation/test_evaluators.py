import dataclasses

import pytest

from memjax.config import MeshConfig
from memjax.data import TaskData, TaskSlice
from memjax.evaluation import evaluators, text_loss
from memjax.evaluation.evaluators import label, measure_task, task_suite
from memjax.evaluation.runs import read_metrics
from memjax.tasks.babi import BabiConfig
from memjax.training import fit


def measure(config, model, step):
    numbers = {}
    for evaluator in evaluators(config):
        numbers |= evaluator(model, step)
    return numbers


def test_a_run_on_tasks_reports_every_setting_and_their_mean(task_run):
    _, model, config = task_run
    numbers = measure(config, model, step=1)
    names = [f"eval/{label(task)}/accuracy" for task in config.evaluation.tasks]
    assert names[0] == "eval/mqar/pairs=1,length=16/accuracy"
    assert set(numbers) == {*names, "eval/accuracy"}
    wanted = [measure_task(model, task, config)["accuracy"] for task in config.evaluation.tasks]
    assert [numbers[name] for name in names] == pytest.approx(wanted)
    assert numbers["eval/accuracy"] == pytest.approx(sum(wanted) / len(wanted))


def test_the_loop_measures_on_its_mesh_what_is_measured_without_one(task_run, tmp_path):
    config = dataclasses.replace(
        task_run[2],
        output_dir=str(tmp_path / "run"),
        steps=1,
        mesh=MeshConfig(data=2, fsdp=2),
        evaluation=dataclasses.replace(task_run[2].evaluation, tasks=()),
    )
    result = fit(config, evaluators=evaluators(config), say=lambda line: None)
    (row,) = [row for row in read_metrics(tmp_path / "run") if "eval/accuracy" in row]
    assert row["eval/accuracy"] == measure(config, result.model, step=1)["eval/accuracy"]


def test_a_run_on_tasks_is_judged_on_them_unless_it_says_otherwise(task_run):
    config = task_run[2]
    silent = dataclasses.replace(config.evaluation, tasks=())
    task = config.data.train[0].task
    twice = TaskData(train=(TaskSlice(task), TaskSlice(task)))
    assert task_suite(dataclasses.replace(config, evaluation=silent, data=twice)) == (task,)
    assert task_suite(config) == config.evaluation.tasks
    stories = tuple(TaskSlice(BabiConfig(split=split)) for split in ("train", "test"))
    assert task_suite(dataclasses.replace(config, evaluation=silent, data=TaskData(train=stories))) == (
        BabiConfig(split="test"),
    )


def test_a_run_on_text_reads_a_few_batches_on_the_way_and_all_at_the_end(text_run):
    _, model, config = text_run
    before, after = measure(config, model, step=1), measure(config, model, step=config.steps)
    assert set(before) == {"eval/loss", "eval/bits_per_byte"}
    assert before["eval/loss"] == text_loss(model, config, batches=1)["loss"]
    assert after["eval/loss"] == text_loss(model, config)["loss"]
