import json
import shutil

import pytest

from memjax.config import ConfigError
from memjax.evaluation import check_request, evaluate_run, join_reports, joint_directory, plots, write_report
from memjax.evaluation.report import joint
from tests.evaluation.samples import mqar
from tests.evaluation.samples import report as sample


def quiet(line):
    pass


def test_a_report_of_a_run_on_tasks(task_run_copy, task_run):
    said = []
    report = evaluate_run(task_run_copy, say=said.append)
    assert json.loads((task_run_copy / "report.json").read_text()) == report
    assert (task_run_copy / "report.png").read_bytes().startswith(b"\x89PNG")
    assert (task_run_copy / "report_grid.png").read_bytes().startswith(b"\x89PNG")
    html = (task_run_copy / "report.html").read_text()
    assert "<h1>recall</h1>" in html and "figure-grid" in html and "report_needles.png" not in html
    assert sorted(path.name for path in task_run_copy.glob("report*")) == [
        "report.html",
        "report.json",
        "report.png",
        "report_grid.png",
    ]
    assert (report["run"], report["step"], report["state_bytes"]) == ("recall", 3, task_run[1].state_bytes())
    assert [(r["task"], r["pairs"], r["length"], r["examples"]) for r in report["results"]] == [
        ("mqar", pairs, length, 20) for pairs, length in ((1, 16), (2, 16), (2, 32))
    ]
    assert all(0 <= r["accuracy"] <= 1 for r in report["results"])
    assert report["config"]["model"]["width"] == 16 and "jax" in report["versions"] and report["parameters"] > 0
    assert any("pairs=2,length=32" in line and "accuracy" in line for line in said)
    assert not list(task_run_copy.glob(".*tmp"))


def test_a_report_of_a_run_on_text(text_run, tmp_path):
    directory = shutil.copytree(text_run[0], tmp_path / "prose")
    report = evaluate_run(directory, prompt="line ", say=quiet)
    (row,) = report["results"]
    assert row["task"] == "text" and row["bits_per_byte"] > 0 and row["tokens"] > row["bytes"] * 0.9
    assert row["by_position"][-1][:2] == [16, 32] and sum(bucket[3] for bucket in row["by_position"]) == row["tokens"]
    assert report["prompt"] == "line " and isinstance(report["continuation"], str)
    assert "<b>line </b>" in (directory / "report.html").read_text()


def test_lengths_and_contexts_are_measured_where_they_are_named(text_run, tmp_path):
    directory = shutil.copytree(text_run[0], tmp_path / "prose")
    said = []
    report = evaluate_run(directory, names=["extrapolation", "decoding"], say=said.append)
    assert json.loads((directory / "report.json").read_text()) == report
    found = [(row["task"], row[row["axes"][0]]) for row in report["results"]]
    assert found == [("extrapolation", 32 << n) for n in range(5)] + [("decoding", 32 * n) for n in (1, 4, 16)]
    assert "length 512: loss" in said[5] and "context 512: prefill" in said[8] and "decode" in said[8]


def test_named_tasks_are_the_runs_own_settings_or_the_default_one(task_run, text_run):
    assert check_request(task_run[0], names=["mqar", "mqar"]) == task_run[2].evaluation.tasks
    (other,) = check_request(text_run[0], names=["mqar"])
    assert other.vocab_size == 257
    assert check_request(text_run[0]) == ("text",)
    assert check_request(task_run[0], names=["decoding"]) == ("decoding",)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"names": ["mqrr"]}, "unknown task 'mqrr'; known tasks: .*mqar"),
        ({"names": ["text"]}, "unknown task 'text'"),
        ({"names": ["extrapolation"]}, "unknown task 'extrapolation'"),
        ({"prompt": "hello"}, "trained on text"),
    ],
)
def test_what_a_run_cannot_be_asked(task_run, request_, message):
    with pytest.raises(ConfigError, match=message):
        evaluate_run(task_run[0], **request_)
    assert not (task_run[0] / "report.json").exists()


def test_a_vocabulary_that_is_too_small_for_a_task(text_run, tmp_path):
    directory = shutil.copytree(text_run[0], tmp_path / "prose")
    content = json.loads((directory / "config.json").read_text())
    content["model"]["vocab_size"] = 8
    (directory / "config.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="vocabulary of 8 is too small: mqar"):
        check_request(directory, names=["mqar"])


def test_an_old_report_survives_a_failure(task_run_copy, monkeypatch):
    (task_run_copy / "report.png").write_bytes(b"old")
    (task_run_copy / "report.html").write_bytes(b"old")
    monkeypatch.setattr(plots, "emit", lambda figure, path: path.write_bytes(b"half") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate_run(task_run_copy, names=["mqar"], say=quiet)
    assert (task_run_copy / "report.png").read_bytes() == b"old"
    assert (task_run_copy / "report.html").read_bytes() == b"old"
    assert not list(task_run_copy.glob(".*tmp"))


def test_the_joint_report_names_runs_in_every_row(task_run, tmp_path):
    runs = [shutil.copytree(task_run[0], tmp_path / side / "recall") for side in ("left", "right")]
    reports = [evaluate_run(run, say=quiet) for run in runs]
    found = join_reports(runs, reports, tmp_path / "joint")
    assert json.loads((tmp_path / "joint" / "report.json").read_text()) == found
    assert (tmp_path / "joint" / "report.png").read_bytes().startswith(b"\x89PNG")
    html = (tmp_path / "joint" / "report.html").read_text()
    assert "<h1>2 runs</h1>" in html and 'href="../left/recall/report.html"' in html
    assert [row["run"] for row in found["results"]] == ["left/recall"] * 3 + ["right/recall"] * 3
    assert found["results"][0]["state_bytes"] == reports[0]["state_bytes"]
    assert [run["step"] for run in found["runs"]] == [3, 3]
    assert joint(reports)["results"][0]["run"] == "recall"


def test_a_figure_that_has_no_rows_any_more_is_removed(tmp_path):
    rows = [mqar(2, 64, 0.5), mqar(4, 128, 0.5)]
    write_report([sample(*rows)], tmp_path, [tmp_path])
    assert (tmp_path / "report_grid.png").is_file()
    write_report([sample(rows[0])], tmp_path, [tmp_path])
    assert not (tmp_path / "report_grid.png").exists() and (tmp_path / "report.png").is_file()


def test_where_the_joint_report_goes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert joint_directory(["runs/a"], None) is None
    assert str(joint_directory(["runs/a", "runs/b"], None)) == "runs"
    assert str(joint_directory(["runs/a", "runs/b"], "out")) == "out"
    for asked in (None, "runs"):
        with pytest.raises(ConfigError, match="overwrite"):
            joint_directory(["runs", "runs/b"], asked)
