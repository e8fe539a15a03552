"""The metrics file over kills and resumes, and its mirrors."""

import json
import sys

import pytest

from memjax.training.metrics import MetricsLog, read_rows


def test_rows_are_on_disk_at_once(tmp_path):
    with MetricsLog(tmp_path, after=0) as log:
        log.write(1, {"loss": 2.5})
        assert read_rows(tmp_path) == [{"step": 1, "loss": 2.5}]


def test_later_rows_and_a_torn_line_are_dropped(tmp_path):
    rows = [
        {"step": 1, "loss": 1.0},
        {"step": 2, "loss": 0.5},
        {"step": 2, "eval/accuracy": 0.1},
        {"step": 3, "loss": 0.2},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 4, "lo')
    with MetricsLog(tmp_path, after=2) as log:
        assert read_rows(tmp_path) == rows[:3]
        assert log.has(2, "eval/") and not log.has(1, "eval/") and not log.has(3, "loss")
        log.write(3, {"loss": 0.3})
    assert read_rows(tmp_path) == [*rows[:3], {"step": 3, "loss": 0.3}]


def test_what_json_cannot_say_is_null(tmp_path):
    with MetricsLog(tmp_path, after=0) as log:
        log.write(1, {"eval/loss": float("nan")})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "eval/loss": None}


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboardX")
    with MetricsLog(tmp_path, after=0, tensorboard=True) as log:
        log.write(1, {"loss": 2.5})
    events = list((tmp_path / "tensorboard").iterdir())
    assert len(events) == 1 and b"loss" in events[0].read_bytes()


@pytest.mark.parametrize(("option", "package"), [({"tensorboard": True}, "tensorboardX"), ({"wandb": "p"}, "wandb")])
def test_a_missing_package_is_named(tmp_path, monkeypatch, option, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=package):
        MetricsLog(tmp_path, after=0, **option)
