"""The sweep at two steps, with a mixer that stands in for a state-space model."""

import dataclasses
import json

import pytest

from benchmarks import stable_ssm
from memjax.config import ConfigError
from memjax.mixers import AttentionConfig

TINY = stable_ssm.Flags(rates=(1e-3, 1e18), seeds=2, steps=2, batch_size=4, length=8, width=8)
MIXERS = {"direct": AttentionConfig(heads=1, context=8)}


@pytest.mark.slow
def test_a_sweep_is_written_resumed_and_drawn(tmp_path, monkeypatch):
    flags, said = dataclasses.replace(TINY, mixer="Twin", output_dir=str(tmp_path)), []
    rows = stable_ssm.sweep(flags, MIXERS, said.append)
    assert [(row["learning_rate"], row["seed"], row["diverged"]) for row in rows] == [
        (1e-3, 0, False),
        (1e-3, 1, False),
        (1e18, 0, True),
        (1e18, 1, True),
    ]
    assert rows[0]["mse"] > 0 and rows[0]["mse"] != rows[1]["mse"] and "diverged diverged" in said[1]
    path = tmp_path / "stable_ssm_twin.json"
    assert json.loads(path.read_text())["rows"] == rows
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    path.write_text(json.dumps({"rows": [*rows[2:], {**rows[0], "run": "of another experiment"}]}))
    trained = []
    train = stable_ssm.train
    monkeypatch.setattr(stable_ssm, "train", lambda config, count: trained.append(config) or train(config, count))
    assert stable_ssm.sweep(flags, MIXERS, said.append) == rows  # the same numbers again
    assert [config.optimizer.learning_rate for config in trained] == [1e-3]
    assert len(json.loads(path.read_text())["rows"]) == 4


@pytest.mark.parametrize("flags", [["--mixer", "Attention"], ["--rates", "0"], ["--mixers", "S4D"], ["--seeds", "0"]])
def test_bad_flags_are_one_line(flags, capsys):
    assert stable_ssm.main(flags) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and errors.count("\n") == 1


def test_a_mixer_without_the_field_is_named():
    with pytest.raises(ConfigError, match="'Attention' has no field reparameterization"):
        stable_ssm.variants(stable_ssm.Flags(mixer="Attention"))
