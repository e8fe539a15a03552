"""What is said about a number that is not finite."""

import numpy as np
import pytest

from memjax.training.finite import NonFiniteError, check_step

NAMES = ("embed/table", "blocks/0/mixer/query/kernel", "final_norm/scale")


def test_finite_numbers_pass():
    check_step(3, 1.0, 2.0, np.ones(3), NAMES)


def test_the_first_parameter_is_named():
    with pytest.raises(
        NonFiniteError, match=r"step 3: the gradient of blocks/0/mixer/query/kernel and of 1 more"
    ) as found:
        check_step(3, 1.0, np.inf, np.array([1.0, np.inf, np.nan]), NAMES)
    assert (found.value.step, found.value.parameter) == (3, NAMES[1])


def test_a_loss_alone():
    with pytest.raises(NonFiniteError, match="step 3: the loss is nan"):
        check_step(3, np.nan, 1.0, np.ones(3), NAMES)
