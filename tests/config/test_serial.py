"""JSON: the round trip, and that a file is data, which builds configurations and runs nothing."""

import dataclasses
import json
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from memjax.config import (
    ConfigError,
    EvaluationConfig,
    MeshConfig,
    OptimizerConfig,
    TableOptimizerConfig,
    TrainConfig,
    from_json,
    load,
    register,
    save,
    serial,
    to_json,
)
from memjax.data.config import TaskData, TaskSlice, TextData, TfdsData
from memjax.mixers import AttentionConfig
from memjax.models import BlockConfig, LMConfig
from memjax.tasks.mqar import MQARConfig
from memjax.types import MixerConfig

GDN = "memjax.mixers.gated_delta_net:GatedDeltaNetConfig"


@dataclasses.dataclass(frozen=True)
class OddConfig(MixerConfig):
    limits: tuple[float, float] = (0.0, math.inf)
    names: tuple[str, ...] = ()
    table: tuple[tuple[int, ...], ...] = ((1, 2), ())
    either: tuple[int, ...] | None = None
    anything: Any = None


@pytest.fixture
def odd(monkeypatch):
    monkeypatch.setattr(serial, "_registered", {})
    return register(OddConfig)


CONFIGS = [
    TrainConfig(),
    TrainConfig(data=TextData(path="a folder"), mesh=MeshConfig(fsdp=8), init_from="runs/a"),
    TrainConfig(data=TfdsData(name="lm1b")),
    TrainConfig(optimizer=OptimizerConfig(table=TableOptimizerConfig(name="adagrad", clip=None))),
    TrainConfig(
        model=LMConfig(blocks=(BlockConfig(), BlockConfig(mixer=AttentionConfig(), mlp=None))),
        data=TaskData(train=(TaskSlice(examples=3), TaskSlice(task=MQARConfig(pairs=2)))),
        evaluation=EvaluationConfig(tasks=(MQARConfig(), MQARConfig(pairs=8))),
    ),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_round_trip(config, tmp_path):
    value = json.loads(json.dumps(to_json(config), allow_nan=False))
    assert from_json(value) == config
    assert hash(from_json(value)) == hash(config)
    save(config, tmp_path / "new" / "config.json")
    assert load(tmp_path / "new" / "config.json") == config
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["config.json"]


def test_classes_are_named_by_module():
    assert to_json(TrainConfig())["model"]["blocks"][0]["mixer"]["class"] == GDN


def test_an_integer_in_a_float_field_is_a_float():
    value = to_json(TrainConfig())
    value["optimizer"]["clip"] = value["optimizer"]["learning_rate"] = 1
    optimizer = from_json(value).optimizer
    assert (type(optimizer.clip), type(optimizer.learning_rate)) == (float, float)


def test_missing_fields_take_their_defaults():
    value = to_json(TrainConfig(steps=3))
    del value["model"], value["optimizer"]["clip"], value["optimizer"]["table"]
    assert from_json(value) == TrainConfig(steps=3)


@pytest.mark.parametrize(
    "config",
    [
        OddConfig(),
        OddConfig(limits=(-math.inf, 1.5), names=("a", "b"), either=(1, 2)),
        OddConfig(table=((), (3,)), anything=(None, True, "x", 2, 0.5)),
        OddConfig(anything=MQARConfig()),
    ],
)
def test_tuples_infinities_and_none_come_back(odd, config):
    value = json.loads(json.dumps(to_json(config), allow_nan=False))
    back = from_json(value)
    assert back == config
    assert repr(back) == repr(config)


@pytest.mark.parametrize("value", [math.nan, [1], {"a": 1}, {1}, np.int64(3), np.zeros(2), len, b"x", 1j])
def test_what_would_not_come_back_is_refused(odd, value):
    with pytest.raises(ConfigError, match=r"OddConfig\.anything"):
        to_json(OddConfig(anything=value))


def test_an_unregistered_class_is_refused_when_writing_and_when_reading(odd, monkeypatch):
    value = to_json(OddConfig())
    monkeypatch.setattr(serial, "_registered", {})
    with pytest.raises(ConfigError, match=r"memjax\.config\.register"):
        to_json(TrainConfig(model=LMConfig(blocks=(BlockConfig(mixer=OddConfig()),))))
    with pytest.raises(ConfigError, match=r"memjax\.config\.register"):
        from_json(value)


def test_a_config_written_in_a_notebook_round_trips(monkeypatch):
    monkeypatch.setattr(serial, "_registered", {})
    mine = dataclasses.make_dataclass("Mine", [("size", int, 3)], bases=(MixerConfig,), frozen=True)
    mine.__module__ = "__main__"
    register(mine)
    config = TrainConfig(model=LMConfig(blocks=(BlockConfig(mixer=mine(size=5)),)))
    value = to_json(config)
    assert value["model"]["blocks"][0]["mixer"] == {"class": "__main__:Mine", "size": 5}
    assert from_json(value) == config


def test_register_takes_frozen_dataclasses_only():
    @dataclasses.dataclass
    class Thawed:
        x: int = 0

    for kind in (Thawed, dict):
        with pytest.raises(ConfigError, match="register"):
            register(kind)


EVIL = [
    "os:system",
    "subprocess:Popen",
    "builtins:eval",
    "memjax:os",
    "memjax.training.loop:subprocess",
    "memjax.config.serial:os",
    "memjax.config.serial:importlib",
    "memjax.config.serial:Path",
    "memjax.config.serial:save",
    "memjax.config.serial:TrainConfig",  # a config, but not defined there
    "memjax.config:TrainConfig",
    "memjax.config.fields:ConfigError",
    "memjax.config.fields:Leaf",
    "memjax.models.lm:LM",
    "memjax.models.lm:LM.__init__",
    "memjax.models.lm:LMConfig.__class__",
    "memjax.models.lm:__builtins__",
    "memjax.models.lm:dataclasses.os",
    "memjax.models.lm.LMConfig:x",
    "memjax.models.lm:LMConfig:x",
    "memjax.models.lm:LMConfig\n",
    " memjax.models.lm:LMConfig",
    "memjax.models..lm:LMConfig",
    "memjax.models.__main__:LMConfig",
    "memjax.mixers.../os:system",
    "memjax.tasks.mqar:np",
    "memjax.tasks.nothing:Config",
    "memjaxevil.models:LMConfig",
    "mémjax.models.lm:LMConfig",
    "memjax.types:MixerOutput",
    "",
    ":",
    None,
    3,
    [GDN],
    {"class": GDN},
]


@pytest.mark.parametrize("key", EVIL, ids=repr)
def test_only_configuration_classes_are_built(key):
    for value in ({"class": key}, {"class": key, "args": ["true"], "float": "inf"}):
        with pytest.raises(ConfigError) as info:
            from_json(value)
        assert "\n" not in str(info.value)


def test_reading_imports_nothing_outside_memjax():
    """In a fresh interpreter: modules that exist and are not loaded yet stay unloaded."""
    program = """
import sys
from memjax.config import ConfigError, from_json
before = set(sys.modules)
keys = "antigravity:webbrowser", "this:s", "turtledemo.clock:Hand", "memjax.config.evil:X", "memjax.evaluation.plots:np"
for key in keys:
    try:
        from_json({"class": key})
    except ConfigError:
        continue
    raise SystemExit(f"{key} was built")
raise SystemExit(str(sorted(set(sys.modules) - before)) if set(sys.modules) - before else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def deep(levels):
    value: Any = {"class": GDN}
    for _ in range(levels):
        value = {"class": "memjax.models.lm:BlockConfig", "mixer": value}
    return value


JUNK = [
    ({"class": GDN, "heads": "four"}, "heads"),
    ({"class": GDN, "heads": True}, "heads"),
    ({"class": GDN, "heads": 4.5}, "heads"),
    ({"class": GDN, "heads": {"float": "inf"}}, "heads"),
    ({"class": GDN, "heads": {"float": "1e3"}}, "1e3"),
    ({"class": GDN, "heads": {"a": 1}}, "heads"),
    ({"class": GDN, "heads": [1]}, "heads"),
    ({"class": GDN, "make": 3}, "no field 'make'"),
    ({"class": GDN, "future": 3, "other": 4}, "'future', 'other'"),
    ({"class": GDN, "__class__": "os:system"}, "no field"),
    ({"class": "memjax.models.lm:BlockConfig", "mixer": {"class": "memjax.tasks.mqar:MQARConfig"}}, "mixer"),
    ({"class": "memjax.models.lm:BlockConfig", "mixer": None}, "mixer"),
    ({"class": "memjax.models.lm:LMConfig", "blocks": {"class": GDN}}, "blocks"),
    ({"class": "memjax.models.lm:LMConfig", "blocks": {"class": "memjax.models.lm:BlockConfig"}}, "blocks"),
    ({"class": "memjax.models.lm:LMConfig", "blocks": [[{"class": GDN}]]}, "blocks.0"),
    ({"class": "memjax.models.lm:LMConfig", "blocks": [{"class": GDN}]}, "blocks.0"),
    ({"class": "memjax.models.lm:LMConfig", "remat": "everything"}, "none or dots or full"),
    ({"class": "memjax.tasks.mqar:MQARConfig", "pairs": 99}, "99 pairs"),
    ({}, "None"),
    (deep(3), "mixer"),
]


@pytest.mark.parametrize(("value", "words"), JUNK)
def test_values_that_do_not_fit_are_refused(value, words):
    with pytest.raises(ConfigError) as info:
        from_json(value)
    assert words in str(info.value)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("value", [None, 3, "x", [], [{"class": GDN}]])
def test_only_objects_are_configurations(value):
    with pytest.raises(ConfigError):
        from_json(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[1, 2]",
        '{"class": NaN}',
        '{"class": "memjax.config.experiment:TrainConfig", "steps": Infinity}',
        '{"class": "memjax.config.experiment:TrainConfig", "steps": 1e999}',
        json.dumps({"class": GDN}),
        "[" * 100_000,
        '{"class": "memjax.config.experiment:TrainConfig", "model": ' + "[" * 5000 + "]" * 5000 + "}",
    ],
    ids=range(10),
)
def test_a_file_that_holds_no_run_is_one_line(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as info:
        load(path)
    assert str(path) in str(info.value)
    assert "\n" not in str(info.value)
    assert len(str(info.value)) < 1000


@pytest.mark.parametrize("name", ["missing.json", ".", "binary.json"])
def test_a_path_that_cannot_be_read_is_one_line(tmp_path, name):
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=str(tmp_path)):
        load(tmp_path / name)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    save(TrainConfig(), path)
    before = path.read_text()
    with pytest.raises(ConfigError):
        save(TrainConfig(optimizer=OptimizerConfig(eps=math.nan)), path)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(serial.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save(TrainConfig(steps=5), path)
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]
