import dataclasses
import json
from pathlib import Path

import pytest

from memjax.config import EvaluationConfig, TrainConfig
from memjax.data import TaskData, TaskSlice
from memjax.evaluation import evaluate_run, evaluators, plots
from memjax.evaluation.plots.recall_emergence import crossing, read_log
from memjax.mixers import MinGRUConfig
from memjax.models import BlockConfig, SequenceConfig
from memjax.tasks.mqar_continuous import ContinuousMQARConfig
from memjax.training import fit
from tests.evaluation.conftest import task_config


@pytest.fixture(scope="module")
def logged_run(tmp_path_factory):
    """The directory of a run that was evaluated as it was trained."""
    config = task_config(tmp_path_factory.mktemp("runs") / "logged", evaluate_every=2)
    fit(config, evaluators=evaluators(config), say=lambda line: None)
    return Path(config.output_dir)


def write(run, rows):
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


def labels(panel):
    return [line.get_label() for line in panel.lines if not line.get_label().startswith("_")]


ROWS = [
    {"step": 1, "loss": 1.0, "accuracy": 0.9},
    *(
        {"step": step, "eval/mqar/pairs=1,length=16/accuracy": value, "eval/accuracy": 1.0, "eval/parity/x/mse": 1.0}
        for step, value in ((10, 0.1), (20, None), (30, 0.6), (40, 0.5))
    ),
    {"step": 40, "eval/mqar/pairs=2,length=16/accuracy": 0.2, "eval/knowledge/people=5,form=text/accuracy": 0.5},
]


def test_a_line_for_each_setting_that_a_run_logged(task_run_copy):
    figure = plots.emergence(write(task_run_copy, ROWS))
    (panel,) = figure.axes
    assert labels(panel) == ["pairs 1, length 16 (step 30)", "pairs 2, length 16 (not by step 40)", "chance"]
    assert [part.tolist() for part in panel.lines[0].get_data()] == [[10, 30, 40], [0.1, 0.6, 0.5]]
    assert [part.tolist() for part in panel.lines[1].get_data()] == [[30], [0.6]]  # the dot
    assert "recall" in figure.get_suptitle() and figure._repr_png_().startswith(b"\x89PNG")


def test_of_a_real_valued_task_the_nearest_answers_are_shown(tmp_path):
    task = ContinuousMQARConfig(pairs=2, key_size=4, value_size=2)
    model = SequenceConfig(features=6, outputs=2, width=8, repeats=1, blocks=(BlockConfig(MinGRUConfig(), None),))
    config = TrainConfig(
        output_dir=str(tmp_path / "run"), model=model, data=TaskData(train=(TaskSlice(task),)), steps=1, batch_size=4
    )
    config = dataclasses.replace(config, evaluation=EvaluationConfig(examples=4))
    fit(config, evaluators=evaluators(config), say=lambda line: None)
    log = read_log(config.output_dir)
    setting = "mqar_continuous/pairs=2,key_size=4,value_size=2"
    assert log.chances == {setting: 0.5} and [step for step, _ in log.curves[setting]] == [1]
    (row,) = evaluate_run(config.output_dir, say=lambda line: None)["results"]
    assert (row["chance"], row["nearest_accuracy"]) == (0.5, log.curves[setting][0][1])


def test_the_chance_level_is_that_of_the_task(task_run_copy):
    log = read_log(write(task_run_copy, ROWS))
    assert log.chances["mqar/pairs=1,length=16"] == 1 / 8
    assert crossing([(1, 0.56), (2, 0.57)], 1 / 8) == (2, 0.57)
    assert crossing([(1, 0.5)], 0.5) is None


def test_a_run_that_was_trained_shows_what_it_logged(logged_run):
    """What the loop writes and what the figure reads are one format."""
    log = read_log(logged_run)
    assert list(log.curves) == ["mqar/pairs=1,length=16", "mqar/pairs=2,length=16", "mqar/pairs=2,length=32"]
    assert set(log.curves) == set(log.chances)
    assert [step for step, _ in log.curves["mqar/pairs=1,length=16"]] == [2, 3]
    (panel,) = plots.emergence(logged_run).axes
    assert len(labels(panel)) == 4


def test_several_runs_have_a_panel_a_setting(logged_run, task_run_copy):
    other = write(task_run_copy.rename(task_run_copy.with_name("other")), ROWS)
    figure = plots.emergence([logged_run, other])
    assert [panel.get_title() for panel in figure.axes if panel.get_visible()] == [
        "mqar: pairs 1, length 16",
        "mqar: pairs 2, length 16",
        "mqar: pairs 2, length 32",
    ]
    assert labels(figure.axes[0])[1] == "other (step 30)"


def test_a_run_that_logged_no_recall_is_refused_in_a_line(text_run, tmp_path):
    with pytest.raises(ValueError, match=r"^emergence: .*prose logged no accuracy of a task$"):
        plots.emergence(text_run[0])
    with pytest.raises(FileNotFoundError, match="no such run"):
        plots.emergence(tmp_path / "nowhere")
