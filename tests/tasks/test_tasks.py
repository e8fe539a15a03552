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


def test_of_refuses_what_is_no_task():
    with pytest.raises(ValueError, match="no task's Config; tasks: mqar"):
        tasks.of(tasks.TaskConfig())
