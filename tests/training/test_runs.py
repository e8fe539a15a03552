"""Who may train in a directory, and with what."""

import pytest

from memjax.config import ConfigError
from memjax.training import runs
from tests.training.conftest import change


def test_a_fresh_run_fixes_the_length_of_its_schedule(tiny):
    config = runs.resolve(tiny)
    assert config.optimizer.schedule_steps == tiny.steps
    runs.write_config(config)
    longer = runs.resolve(change(tiny, steps=99))
    assert (longer.steps, longer.optimizer.schedule_steps) == (99, tiny.steps)


def test_another_configuration_is_refused_with_the_difference(tiny, tmp_path):
    runs.write_config(runs.resolve(tiny))
    content = (tmp_path / "run" / "config.json").read_text()
    with pytest.raises(ConfigError, match=r"optimizer.learning-rate: 0.01 -> 0.5"):
        runs.resolve(change(tiny, **{"optimizer.learning_rate": 0.5}))
    assert (tmp_path / "run" / "config.json").read_text() == content


@pytest.mark.parametrize("name", ["checkpoints", "metrics.jsonl"])
def test_results_without_a_configuration_are_not_overwritten(tiny, tmp_path, name):
    (tmp_path / "run" / name).mkdir(parents=True)
    with pytest.raises(FileExistsError, match=name):
        runs.resolve(tiny)


def test_other_files_do_not_matter(tiny, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    runs.resolve(tiny)


def test_one_process_at_a_time(tmp_path):
    with runs.held(tmp_path), pytest.raises(FileExistsError, match="another process"), runs.held(tmp_path):
        pass
    with runs.held(tmp_path):
        pass


def test_positions_follow_the_number_of_processes():
    assert runs.position_of([{"next": 3}]) == {"next": 3}
    assert runs.position_of([{"next": 3}, {"next": 3}]) == {"next": 3}  # any number of processes reads on from there
    with pytest.raises(ValueError, match="written by 2 processes"):
        runs.position_of([{"a": 1}, {"a": 2}])
