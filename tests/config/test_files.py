"""Experiment files: what is wrong with one is said in a line that names it."""

import pytest

from memjax.config import ConfigError, TrainConfig, load_file

GOOD = "from memjax.config import TrainConfig\n\ndef get_config():\n    return TrainConfig(steps=3)\n"


def test_get_config_is_run(tmp_path):
    path = tmp_path / "good.py"
    path.write_text(GOOD)
    assert load_file(path) == TrainConfig(steps=3)


def test_a_file_is_read_again_when_it_changed(tmp_path):
    path = tmp_path / "again.py"
    path.write_text(GOOD)
    load_file(path)
    path.write_text(GOOD.replace("steps=3", "steps=44"))
    assert load_file(path).steps == 44


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\n", "get_config()"),
        ("get_config = 3\n", "get_config()"),
        ("def get_config():\n    return 3\n", "returned int, not a memjax.config.TrainConfig"),
        ("def get_config(:\n", "line 1"),
        ("import nowhere_to_be_found\n", "line 1: ModuleNotFoundError"),
        ("def get_config():\n    raise KeyError('first\\nsecond')\n", "line 2: KeyError"),
        ("def get_config(a):\n    return a\n", "TypeError"),
        ("raise SystemExit(3)\n", "SystemExit"),
        ("from memjax.config import ConfigError\n\ndef get_config():\n    raise ConfigError('too wide')\n", "too wide"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path, text, words):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(ConfigError) as info:
        load_file(path)
    assert "\n" not in str(info.value)
    assert str(path) in str(info.value)
    assert words in str(info.value)


@pytest.mark.parametrize("name", ["missing.py", "folder", "notes.txt"])
def test_what_is_no_python_file_is_refused(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ConfigError, match=name):
        load_file(tmp_path / name)
