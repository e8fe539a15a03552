import dataclasses

import pytest

from memjax.config import ConfigError
from memjax.evaluation import check_request, measurements, needle_map
from memjax.tasks.needles import NeedlesConfig


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(needle_map, "DEPTHS", (0.0, 1.0))
    monkeypatch.setattr(needle_map, "FACTORS", (1,))


def test_rows_at_every_depth_and_length(text_run, few):
    _, model, config = text_run
    config = dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, examples=3))
    said = []
    rows = measurements.measure(model, config, ("needle_map",), said.append)
    assert [(row["task"], row["length"], row["depth"], row["examples"]) for row in rows] == [
        ("needles", 1024, depth, 3) for depth in (0.0, 1.0)
    ]
    assert all({"length", "depth"} <= set(row["axes"]) for row in rows)
    assert "needles/variant=single_1,length=1024,depth=1.0" in said[1]


def test_a_run_that_asks_for_needles_gets_its_own_variants(text_run):
    own = (NeedlesConfig(variant="multikey_1"), NeedlesConfig(variant="multikey_1", depth=0.5), NeedlesConfig())
    config = text_run[2]
    config = dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, tasks=own))
    found = needle_map.cells(config)
    assert {task.variant for task in found} == {"multikey_1", "single_1"} and len(found) == len(set(found)) == 2 * 15
    assert {task.length for task in found} == {1024, 2048, 4096}


def test_tokens_that_are_no_bytes_are_refused(task_run):
    with pytest.raises(ConfigError, match="unknown task 'needle_map'"):
        check_request(task_run[0], names=["needle_map"])
