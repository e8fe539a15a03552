"""The command line of eval.py: what it refuses, and what it prints. The evaluation itself: tests/evaluation."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

import eval as program
from memjax import evaluation

HARNESS = ("--harness", "lambada_local", "xquad_cloze", "niah", "babilong", "--data-dir", "--limit", "--cloze-window")
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def asked(monkeypatch):
    """Replaces the evaluation; collects what it was asked for."""
    calls = []

    def evaluate_run(run, **request):
        calls.append((run, request))
        return {"run": run, "continuation": "there was"}

    monkeypatch.setattr(evaluation, "check_request", lambda run, **request: ())
    monkeypatch.setattr(evaluation, "evaluate_run", evaluate_run)
    monkeypatch.setattr(evaluation, "join_reports", lambda *joined: calls.append(joined))
    return calls


def test_passes_on_what_is_asked(asked, capsys):
    assert program.main(["runs/a", "--tasks", "mqar", "text", "--prompt", "Once "]) == 0
    assert asked == [("runs/a", {"names": ("mqar", "text"), "prompt": "Once ", "harness": None})]
    printed = capsys.readouterr().out
    assert "Once there was" in printed and "runs/a/report.json, runs/a/report.html, runs/a/report.png" in printed


def test_passes_on_what_the_harness_is_asked(asked):
    settings = ["--data-dir", "files", "--limit", "4", "--harness-lengths", "512", "1024", "--cloze-window", "100"]
    assert program.main(["runs/a", "--harness", "niah", "cloze:a.jsonl", *settings]) == 0
    ((run, request),) = asked
    assert run == "runs/a" and request["names"] is None
    wanted = evaluation.HarnessRequest(("niah", "cloze:a.jsonl"), "files", 4, (512, 1024), 100)
    fields = [field.name for field in dataclasses.fields(wanted)]
    assert [getattr(request["harness"], name) for name in fields] == [getattr(wanted, name) for name in fields]


def test_several_runs_get_a_joint_report(asked, tmp_path):
    runs = [str(tmp_path / name) for name in "ab"]
    assert program.main([*runs, "--output-dir", str(tmp_path / "joint")]) == 0
    joined, reports, directory = asked[-1]
    assert (joined, [report["run"] for report in reports], directory) == (runs, runs, tmp_path / "joint")


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        ([], 2, "no run directory given"),
        (["runs/a", "--task", "mqar"], 2, "--tasks"),
        (["nowhere"], 1, "nowhere: no such run directory"),
        (["nowhere", "--prompt", "a"], 1, "no such run directory"),
        (["nowhere", "--harness", "niah", "--limit", "-1"], 2, "--limit must be at least 0"),
        (["nowhere", "--harness", "niah", "--limit", "few"], 2, "--limit takes an integer"),
    ],
)
def test_refuses_in_one_line(argv, status, message, capsys):
    assert program.main(argv) == status
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert message in captured.err and not captured.out


def test_help_explains_every_flag(capsys):
    with pytest.raises(SystemExit) as stopped:
        program.main(["--help"])
    assert not stopped.value.code
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert all(
        word in text for word in ("--tasks", "--prompt", "--output-dir", "RUN_DIR", "evaluation split", *HARNESS)
    )


def test_runs_as_a_program(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "eval.py", tmp_path], capture_output=True, text=True, timeout=100, cwd=ROOT
    )
    assert done.returncode == 1 and not done.stdout
    assert done.stderr == f"error: {tmp_path}: not a run (it holds no config.json)\n"
