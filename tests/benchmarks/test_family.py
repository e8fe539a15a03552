"""The family's table at two steps, and its writing and keeping of rows."""

import dataclasses
import json

import pytest

from benchmarks import family
from configs import family_mqar as experiment
from memjax.config import ConfigError, EvaluationConfig, OptimizerConfig, TrainConfig
from memjax.data import TaskData, TaskSlice
from memjax.models import BlockConfig, LMConfig
from memjax.tasks.mqar import MQARConfig

TASK = MQARConfig(vocab_size=32, length=16, pairs=2, random_non_queries=False)
PAIR = ("Attention", "MinGRU")
README = "before\n<!-- family_mqar -->\nold\n<!-- end of family_mqar -->\nafter\n"


def get_config(mixer, setting, steps=2):
    """A run of two steps and width 16; its folder is replaced by --output-dir."""
    return TrainConfig(
        output_dir=f"runs/{type(mixer).__name__.removesuffix('Config')}",
        model=LMConfig(vocab_size=32, width=16, repeats=1, blocks=(BlockConfig(mixer=mixer, mlp=None),)),
        data=TaskData(train=(TaskSlice(TASK),)),
        steps=steps,
        batch_size=4,
        log_every=1,
        optimizer=OptimizerConfig(warmup_steps=0, schedule_steps=10),
        evaluation=EvaluationConfig(examples=8),
    )


@pytest.fixture
def places(tmp_path):
    (tmp_path / "README.md").write_text(README)
    return family.Flags(
        only=PAIR, output_dir=f"{tmp_path}/runs", readme=f"{tmp_path}/README.md", results=f"{tmp_path}/results"
    )


def rows_of(tmp_path):
    return {row["mixer"]: row for row in json.loads((tmp_path / "results" / "family_mqar.json").read_text())["rows"]}


def test_mixers_over_time_are_found_and_the_ceiling_is_first():
    found = list(family.time_mixers())
    assert found[0] == "Attention" and set(PAIR) <= set(found) and found[1:] == sorted(found[1:])


def test_a_memory_without_a_state_is_left_out(monkeypatch):
    from memjax.layers import GatedMLPConfig

    monkeypatch.setattr(family.mixers, "GatedMLPConfig", GatedMLPConfig, raising=False)
    assert "GatedMLP" not in family.time_mixers()


@pytest.mark.slow
def test_two_mixers_end_in_a_table_and_nothing_is_done_twice(places, tmp_path):
    said = []
    assert family.run(places, get_config, said.append) == "done"
    rows, text = rows_of(tmp_path), (tmp_path / "README.md").read_text()
    assert list(rows) == list(PAIR) and {row["status"] for row in rows.values()} == {"done"}
    assert all(row["state_bytes"] > 0 and 0 <= row["16/2"] <= 1 and row["step"] == 2 for row in rows.values())
    assert rows["MinGRU"]["tokens_per_second"] > 0
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "| `Attention` |" in text and "width 16, 1 layers" in text
    said.clear()
    assert family.run(dataclasses.replace(places, only=PAIR[:1]), get_config, said.append) == "already done"
    assert (tmp_path / "README.md").read_text() == text and rows_of(tmp_path) == rows
    assert not any("evaluation" in line for line in said)


@pytest.mark.slow
def test_out_of_time_is_unfinished_and_goes_on(places, tmp_path):
    short = dataclasses.replace(places, only=PAIR[1:], minutes=1e-9)
    longer = lambda mixer, setting: get_config(mixer, setting, steps=4)
    assert family.run(short, longer, str) == "out of time"
    assert "| - | - | - | **unfinished**: 0 of 4 |" in (tmp_path / "README.md").read_text()
    config = dataclasses.replace(longer(family.time_mixers()["MinGRU"], ""), output_dir=f"{tmp_path}/runs/MinGRU")
    family.fit(dataclasses.replace(config, steps=2, evaluate_every=2), say=str)
    assert family.run(short, longer, str) == "out of time"
    assert rows_of(tmp_path)["MinGRU"]["status"] == "unfinished"
    assert "**unfinished**: 2 of 4" in (tmp_path / "README.md").read_text()
    assert family.run(dataclasses.replace(short, minutes=5.0), longer, str) == "done"
    assert "unfinished" not in (tmp_path / "README.md").read_text()


def row(mixer, accuracy=None, **values):
    found = {
        "mixer": mixer,
        "status": "done",
        "step": 2,
        "date": "2026-01-02",
        "machine": "a box",
        "learning_rate": 1e-3,
    }
    return (
        found
        | {"state_bytes": 1024, "parameters": 10, "tokens_per_second": 99.6}
        | ({} if accuracy is None else {"16/2": accuracy})
        | values
    )


def test_rows_are_ranked_and_shown():
    failed = {"mixer": "Wild", "status": "step 3: loss is nan", "date": "2026-01-03", "machine": "a box"}
    rows = family.ranked([row("Low", 0.1), failed, row("High", 0.9, learning_rate=0.5), row("Attention", 0.5)])
    assert [r["mixer"] for r in rows] == ["Attention", "High", "Low", "Wild"]
    config = get_config(family.time_mixers()["Attention"], "small")
    lines = family.markdown(rows, config)
    assert lines[2] == "| `Attention` | 0.500 | 1,024 | 10 | 100 | 2 |"
    assert lines[3].startswith("| `High` (learning rate 0.5) |")
    assert lines[5] == "| `Wild` | - | - | - | - | **failed**: step 3: loss is nan |"
    assert "2026-01-02 to 2026-01-03; a box." in lines[-1]


def test_a_row_of_another_experiment_is_not_kept(tmp_path):
    config = get_config(family.time_mixers()["Attention"], "small")
    run = family.fingerprint(config)
    assert run == family.fingerprint(dataclasses.replace(config, output_dir="elsewhere"))
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"rows": [row("Attention", 0.5, run=run), row("Gone", 0.5, run=run)]}))
    assert [r["mixer"] for r in family._kept(path, {"Attention": config})] == ["Attention"]
    assert not family._kept(path, {"Attention": dataclasses.replace(config, batch_size=8)})


def test_a_table_is_written_between_its_markers_again_and_again(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(README)
    family.replace_between(path, "family_mqar", ["| a |"])
    once = path.read_text()
    family.replace_between(path, "family_mqar", ["| a |"])
    assert path.read_text() == once == "before\n<!-- family_mqar -->\n\n| a |\n\n<!-- end of family_mqar -->\nafter\n"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--only", "Atention"], "'Atention'"),
        (["--minutes", "0"], "--minutes"),
        (["--minute", "1"], "--minutes"),
        (["--setting", "huge"], "--setting"),
        (["--readme", "nowhere.md"], "nowhere.md"),
    ],
)
def test_bad_flags_are_one_line(flags, words, capsys):
    assert family.main(flags, get_config) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and words in errors and errors.count("\n") == 1


def test_the_page_of_the_library_has_its_markers():
    root = family.Path(__file__).resolve().parents[2]
    for name in ("family_mqar", "family_mqar_large"):
        family.replace_between(root / "README.md", name, None)
    with pytest.raises(ConfigError, match="other"):
        family.replace_between(root / "README.md", "other", None)


def test_each_setting_gives_every_mixer_the_same_run():
    for setting in ("small", "large"):
        runs = [experiment.get_config(mixer, setting) for mixer in family.time_mixers().values()]
        same = [
            dataclasses.replace(run, output_dir="", model=runs[0].model, optimizer=runs[0].optimizer) for run in runs
        ]
        assert len(set(same)) == 1
        assert {(run.model.width, run.model.repeats, run.model.vocab_size) for run in runs} == {
            (runs[0].model.width, 2, runs[0].model.vocab_size)
        }
