"""Runs of two models and two seeds in one table and one figure."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import frontier
from benchmarks.frontier import Experiment, Flags, Variant
from configs import mom_ablations, mom_mqar
from memjax.config import OptimizerConfig
from memjax.evaluation.runs import read_metrics
from memjax.mixers import MinGRUConfig
from memjax.training.reading import steps_in
from tests.benchmarks.test_family import get_config

ROOT = Path(__file__).resolve().parents[2]
README = "before\n<!-- tiny -->\nold\n<!-- end of tiny -->\nafter\n"


def variants(setting):
    mixers = {"one": MinGRUConfig(expansion=1.0), "two": MinGRUConfig()}
    # the schedule's length is left open, as in the real configurations: training fills it in
    optimizer = OptimizerConfig(warmup_steps=0)
    configs = {n: dataclasses.replace(get_config(mixer, setting), optimizer=optimizer) for n, mixer in mixers.items()}
    return {name: Variant("MinGRU", config) for name, config in configs.items()}


EXPERIMENT = Experiment("tiny", "a title", "unused", variants, seeds=(0, 1))


@pytest.fixture
def flags(tmp_path):
    (tmp_path / "README.md").write_text(README)
    return Flags(
        seeds=(0, 1), output_dir=f"{tmp_path}/runs", readme=f"{tmp_path}/README.md", results=f"{tmp_path}/results"
    )


@pytest.mark.slow
def test_every_run_ends_in_the_table_and_nothing_is_done_twice(flags, tmp_path):
    assert frontier.run(dataclasses.replace(flags, seeds=(0,)), EXPERIMENT, str) == "done"
    assert "1 of 2" in (tmp_path / "README.md").read_text()
    assert frontier.run(dataclasses.replace(flags, seeds=(1,)), EXPERIMENT, str) == "done"
    rows = json.loads((tmp_path / "results" / "tiny.json").read_text())["rows"]
    assert [(row["mixer"], row["seed"]) for row in rows] == [("one", 0), ("two", 0), ("one", 1), ("two", 1)]
    assert rows[0]["state_bytes"] < rows[1]["state_bytes"] and {row["line"] for row in rows} == {"MinGRU"}
    assert (tmp_path / "results" / "tiny.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "README.md").read_text()
    assert text.count("2 of 2") == 2 and "old" not in text
    said = []
    assert frontier.run(flags, EXPERIMENT, said.append) == "already done"
    assert (tmp_path / "README.md").read_text() == text
    assert not any("loss" in line for line in said)


@pytest.mark.slow
def test_runs_side_by_side_are_those_of_one_process(flags, tmp_path, capfd):
    side = dataclasses.replace(flags, workers=2, seeds=(0,))
    assert frontier.run(side, EXPERIMENT, str) == "done"
    written = capfd.readouterr().out
    assert "one, seed 0: " in written and "two, seed 0: " in written
    rows = json.loads((tmp_path / "results" / "tiny.json").read_text())["rows"]
    assert [(row["mixer"], row["seed"], row["status"]) for row in rows] == [("one", 0, "done"), ("two", 0, "done")]
    assert frontier.run(dataclasses.replace(side, workers=1), EXPERIMENT, str) == "already done"


LONG = """
import dataclasses, sys
from benchmarks import processes
from tests.benchmarks.test_frontier import variants
if __name__ == "__main__":
    config = dataclasses.replace(variants("small")["one"].config, steps=10**6)
    runs = {name: dataclasses.replace(config, output_dir=f"{sys.argv[1]}/{name}") for name in "abc"}
    print(processes.train_all(runs, 1000, 2))
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_all_of_them_and_they_have_saved(number, tmp_path):
    (tmp_path / "long.py").write_text(LONG)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(tmp_path / "long.py"), str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        while not all(len(read_metrics(tmp_path / name)) > 2 for name in "ab"):
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(number)
        lines = process.communicate(timeout=60)[0].splitlines()  # ends when the last process that prints is gone
    assert (process.returncode, lines[-1] == "interrupted") == ((0, True) if number == signal.SIGTERM else (-9, False))
    assert all(steps_in(tmp_path / name / "checkpoints") for name in "ab")
    assert not (tmp_path / "c").exists()


@pytest.fixture
def tried():
    """Two runs of a model `a`, and a model of one run."""
    config = get_config(MinGRUConfig(), "small")
    faster = dataclasses.replace(config, optimizer=OptimizerConfig(learning_rate=0.5))
    return {
        "a-slow": Variant("A", config, model="a"),
        "a-fast": Variant("A", faster, model="a"),
        "b": Variant("B", config),
    }


def test_the_best_of_a_models_variants_is_shown(tried):
    counts = {"state_bytes": 1, "parameters": 1}
    row = lambda name, seed, first, second: {"mixer": name, "seed": seed, "8/1": first, "8/2": second, **counts}
    rows = [row("a-slow", 0, 0.5, 0.5), row("a-slow", 1, 0.9, 0.9), row("a-fast", 0, 0.9, 0.6), row("b", 0, 0.1, 0.1)]
    assert list(frontier.best(rows, tried, 0)) == ["a-fast", "b"]
    assert list(frontier.best(rows, tried, 1)) == ["a-slow", "b"]  # nothing else was tried from that seed
    assert list(frontier.best([], tried, 0)) == ["a-slow", "b"]
    lines = frontier.table(rows, frontier.best(rows, tried, 0), (0, 1))
    assert lines[2] == "| a | 0.900 | 0.600 | 1 | 1 | 0.5 | 1 of 2 |" and lines[3].startswith("| b | 0.100")


def test_further_seeds_train_what_the_first_has_chosen(tried, tmp_path, monkeypatch):
    done = {"a-slow": 0.5}
    row = lambda name, config: {"mixer": name, "status": "done", "8/1": done[name]} if name in done else None
    monkeypatch.setattr(frontier, "recorded", row)
    due = lambda seed: frontier.due(seed, EXPERIMENT, tried, tmp_path)
    assert due(0) == due(1) == ["a-slow", "a-fast", "b"]  # one of its two is not known yet
    done["a-fast"] = 0.6
    assert due(1) == ["a-fast", "b"] and due(0) == ["a-slow", "a-fast", "b"]


def test_mean_and_deviation_over_seeds():
    assert [frontier.spread(x) for x in ([], [0.5], [0.5, 0.7])] == ["-", "0.500", "0.600 ± 0.141"]


def test_one_memory_reaches_the_state_of_the_mixture_and_no_smaller_one_does():
    for setting in ("small", "large"):
        wanted = mom_mqar.state_bytes(mom_mqar.mixture(setting), setting)
        found = mom_mqar.one_memory(setting, wanted)
        smaller = dataclasses.replace(found, head_dim=found.head_dim - 1)
        assert mom_mqar.state_bytes(found, setting) >= wanted > mom_mqar.state_bytes(smaller, setting)


def test_the_ablations_share_their_base_with_the_frontier():
    base = mom_ablations.variants("small")["MoM-4"].config
    assert base == mom_mqar.variants("small")["MoM-4"].config
    assert mom_ablations.EXPERIMENT.output_dir == mom_mqar.EXPERIMENT.output_dir
    configs = [variant.config.model for variant in mom_ablations.variants("small").values()]
    assert len(set(configs)) == len(configs)


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--only", "MoM-5"], "'MoM-5'"),
        (["--minutes", "0"], "--minutes"),
        (["--seeds", "-1"], "--seeds"),
        (["--workers", "0"], "--workers"),
    ],
)
def test_wrong_flags_are_refused(argv, words, capsys):
    assert frontier.main([*argv, "--readme", ""], mom_mqar.EXPERIMENT) == 2
    assert words in capsys.readouterr().err


def test_a_page_without_markers_is_refused(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("nothing")
    assert frontier.main(["--readme", str(page)], mom_mqar.EXPERIMENT) == 2
    assert "mom_mqar" in capsys.readouterr().err
