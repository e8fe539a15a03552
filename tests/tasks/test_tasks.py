"""The list of tasks, and what each of them must offer."""

import numpy as np
import pytest

from memjax import tasks


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


def test_of_refuses_what_is_no_task():
    with pytest.raises(ValueError, match=r"no task's Config; tasks: .*mqar"):
        tasks.of(tasks.TaskConfig())
