"""Every file in configs/ builds, takes one training step and is evaluated when shrunk, and says how it is run."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from memjax import tasks
from memjax.config import load_file, validate
from memjax.data import DigitData, TaskData, TaskSlice, TextData
from memjax.evaluation import evaluators
from memjax.evaluation.evaluators import task_suite
from memjax.models import build
from memjax.training import fit, loop
from memjax.training.skeleton import parameters_of
from tests.data.test_digits import write_digits

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
FILES = sorted(CONFIGS.glob("*.py"))
LIMITS = {"width": 16, "heads": 2, "value_heads": 2, "head_dim": 8, "hidden": 16, "length": 32, "pairs": 2}
LIMITS |= {"repeats": 1, "examples": 8, "vocab_size": 257, "updates": 2}
LIMITS |= dict.fromkeys(("people", "first_names", "middle_names", "last_names", "birth_years", "birth_cities"), 16)
LIMITS |= dict.fromkeys(("universities", "majors", "employers", "work_cities"), 16)


def shrink(value):
    """The same configuration, every number that `LIMITS` names cut down; of entries that become equal one is kept."""
    if isinstance(value, tuple):
        return tuple(dict.fromkeys(shrink(entry) for entry in value))
    if not dataclasses.is_dataclass(value):
        return value
    changes = {}
    for field in dataclasses.fields(value):
        old = getattr(value, field.name)
        small = isinstance(old, int) and field.name in LIMITS
        changes[field.name] = min(old, LIMITS[field.name]) if small else shrink(old)
    return dataclasses.replace(value, **changes)


def name(path):
    return path.stem


@pytest.mark.parametrize("path", FILES, ids=name)
def test_config_is_valid_and_fits_its_own_evaluation(path):
    config = load_file(path)
    validate(config)
    assert Path(config.output_dir).parts[:2] == ("runs", path.stem)
    abstract = nnx.eval_shape(lambda: build(config.model, rngs=nnx.Rngs(0)))  # whatever its size, nothing is allocated
    assert abstract.config == config.model
    assert all(task.vocab_size <= config.model.vocab_size for task in task_suite(config))
    if isinstance(config.data, TaskData):
        axes = [tasks.of(task)[1].describe(task) for task in task_suite(config)]
        assert len(axes) > 1, "a report of a single setting has no curve"


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=name)
def test_config_trains_and_evaluates_when_shrunk(path, tmp_path, monkeypatch):
    config = shrink(load_file(path))
    data = config.data
    if isinstance(data, TextData):
        (tmp_path / "text.txt").write_text("It was a bright cold day in April.\n" * 40)
        data = dataclasses.replace(data, path=str(tmp_path / "text.txt"), cache_dir=str(tmp_path / "cache"))
    if isinstance(data, DigitData):
        write_digits(tmp_path)
        data = dataclasses.replace(data, path=str(tmp_path), held_out=20)
    if isinstance(data, TaskData):
        data = dataclasses.replace(data, train=tuple(TaskSlice(part.task, part.examples) for part in data.train[:1]))
    sizes = {"steps": 1, "batch_size": 4, "accumulate": 1, "log_every": 1}
    optimizer = dataclasses.replace(config.optimizer, warmup_steps=0, schedule_steps=100)  # at its peak, not its end
    config = dataclasses.replace(config, data=data, optimizer=optimizer, output_dir=str(tmp_path / "run"), **sizes)
    rows = []
    measured = [
        lambda model, step, each=each: rows.append(each(model, step)) or rows[-1] for each in evaluators(config)
    ]
    first, prepare = {}, loop.prepare

    def keep_first(*arguments):
        setup = prepare(*arguments)

        def initial():
            state = setup.initial()
            first.update(jax.device_get(state.parameters))
            return state

        return setup._replace(initial=initial)

    monkeypatch.setattr(loop, "prepare", keep_first)
    result = fit(config, evaluators=measured, say=lambda line: None)
    assert (result.step, result.status) == (1, "done")
    assert rows and all(np.isfinite(value) for row in rows for value in row.values())
    for name, parameter in parameters_of(result.model).items():
        assert np.abs(np.asarray(parameter) - first[name]).max() > 1e-4, name


@pytest.mark.parametrize("path", FILES, ids=name)
def test_docstring_names_the_commands_and_what_to_expect(path):
    first, *rest = path.read_text().removeprefix('"""').splitlines()
    text = "\n".join(rest).split('"""')[0]
    assert first.endswith(".")
    assert f"python train.py configs/{path.name}" in text
    assert f"python eval.py runs/{path.stem}" in text
    assert "\nExpected: " in text


@pytest.mark.parametrize("stem", ["text_gated_delta_net", "digits_attention"])
def test_a_config_asks_for_its_data(stem):
    config = load_file(CONFIGS / f"{stem}.py")
    with pytest.raises((ValueError, FileNotFoundError), match=r"data\.path") as raised:
        fit(dataclasses.replace(config, output_dir="unused"))
    assert "\n" not in str(raised.value)
