"""The list of tasks, and what each of them must offer."""

import math

import numpy as np
import pytest

from memjax import tasks
from memjax.tasks.babilong import BabilongConfig
from memjax.tasks.linear_functional import LinearFunctionalConfig
from memjax.tasks.modular_arithmetic import ModularArithmeticConfig
from memjax.tasks.mqar import MQARConfig
from memjax.tasks.mqar_compositional import CompositionalMQARConfig
from memjax.tasks.mqar_continuous import ContinuousMQARConfig
from memjax.tasks.string_copy import StringCopyConfig


def test_mqar_is_listed_and_nothing_private():
    assert tasks.TASKS["mqar"].__name__ == "memjax.tasks.mqar"
    assert not [name for name in tasks.TASKS if name.startswith("_")]


@pytest.mark.parametrize("name", sorted(tasks.TASKS))
def test_every_task_meets_the_contract(name):
    module = tasks.TASKS[name]
    config = module.Config()
    assert isinstance(config, tasks.TaskConfig)
    assert module.Config.__dataclass_params__.frozen
    assert hash(config) == hash(module.Config())
    assert tasks.of(config) == (name, module)
    data = module.generate(np.random.default_rng(0), 8, config)
    tokens, targets = data["tokens"], data["targets"]
    assert tokens.dtype == targets.dtype == np.int32 and tokens.shape == targets.shape
    assert tokens.min() >= 0 and tokens.max() < config.vocab_size
    assert targets.min() >= -1 and targets.max() < config.vocab_size
    assert 0 < (targets >= 0).sum(1).max() <= module.scored(config)
    assert module.score(targets, data, config)["accuracy"] == 1.0
    assert module.score(np.zeros_like(targets) - 1, data, config)["accuracy"] == 0.0
    assert module.describe(config)
    assert "\n" in (module.__doc__ or "")
    again = module.generate(np.random.default_rng(0), 8, config)
    np.testing.assert_array_equal(tokens, again["tokens"])


@pytest.mark.parametrize("name", sorted(tasks.CONTINUOUS))
def test_every_continuous_task_meets_its_contract(name):
    module = tasks.CONTINUOUS[name]
    config = module.Config()
    assert isinstance(config, tasks.ContinuousConfig) and config.vocab_size == 0
    assert hash(config) == hash(module.Config()) and tasks.of(config) == (name, module)
    data = module.generate(np.random.default_rng(0), 8, config)
    assert {x.dtype for x in data.values()} == {np.dtype(np.float32)}
    assert data["inputs"].shape[2] == config.features and data["outputs"].shape[2] == config.outputs
    assert data["inputs"].shape[:2] == data["outputs"].shape[:2] == data["mask"].shape
    assert data["mask"].sum() > 0 and set(np.unique(data["mask"])) <= {0, 1}
    assert module.score(data["outputs"], data, config)["mse"] == 0
    assert module.describe(config)
    again = module.generate(np.random.default_rng(0), 8, config)
    np.testing.assert_array_equal(data["outputs"], again["outputs"])


@pytest.mark.parametrize("name", sorted(tasks.TASKS | tasks.CONTINUOUS))
def test_no_rows_are_rows_too(name):
    module = (tasks.TASKS | tasks.CONTINUOUS)[name]
    some, none = (module.generate(np.random.default_rng(0), n, module.Config()) for n in (1, 0))
    assert {key: (0, *x.shape[1:]) for key, x in some.items()} == {key: x.shape for key, x in none.items()}


@pytest.mark.parametrize(
    ("config", "more"),
    [
        (StringCopyConfig(), {}),
        (StringCopyConfig(ngram=2, answer=4), {"answer": 4}),  # nothing is looked up in a copy
        (StringCopyConfig(kind="prefix_ngram", ngram=2, letters=20), {"letters": 20, "ngram": 2}),
        (ModularArithmeticConfig(multiplication=False), {"multiplication": False}),
        (LinearFunctionalConfig(rate=0.5, delay=3), {"rate": 0.5}),
        (LinearFunctionalConfig(memory="shift", delay=3, rate=0.5), {"delay": 3}),
        (ContinuousMQARConfig(value_size=4), {"value_size": 4}),
        (BabilongConfig(path="x", longest_story=200), {"longest_story": 200}),
    ],
)
def test_what_differs_from_the_default_is_shown(config, more):
    axes = tasks.of(config)[1].describe(config)
    sizes = {"kind", "min_length", "max_length", "brackets", "modulus", "length", "memory", "pairs", "key_size"}
    sizes |= {"number", "stories", "background"}
    assert {name: value for name, value in axes.items() if name not in sizes} == more


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        (MQARConfig, {"power": math.inf}, "power must be at most 10"),
        (CompositionalMQARConfig, {"power": 11.0}, "power must be at most 10"),
        (LinearFunctionalConfig, {"rate": math.inf}, "rate must be positive, got inf"),
        (BabilongConfig, {"longest_story": 1025}, "longest_story must lie between 0 and length 1024, got 1025"),
    ],
)
def test_settings_that_no_row_has(kind, fields, words):
    with pytest.raises(ValueError, match=words):
        kind(**fields)


def test_of_refuses_what_is_no_task():
    with pytest.raises(ValueError, match=r"no task's Config; tasks: .*mqar"):
        tasks.of(tasks.TaskConfig())
