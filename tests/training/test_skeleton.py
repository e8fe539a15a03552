"""Taking a model apart and putting it together."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from memjax.models import LM
from memjax.training.skeleton import Skeleton, initial_parameters, parameters_of
from tests.training.conftest import MODEL


def test_a_model_survives_being_taken_apart():
    model, tokens = LM(MODEL, rngs=nnx.Rngs(3)), jnp.arange(8).reshape(1, 8)
    skeleton, parameters = Skeleton.of(MODEL), parameters_of(model)
    np.testing.assert_array_equal(skeleton.model(parameters)(tokens).logits, model(tokens).logits)
    shapes = {name: (x.shape, x.dtype) for name, x in parameters.items()}
    assert shapes == {name: (x.shape, x.dtype) for name, x in skeleton.abstract.items()}
    assert "blocks/0/mixer/query/kernel" in parameters


def test_order_of_the_dictionary_does_not_matter():
    parameters = initial_parameters(MODEL, 0)
    backwards = dict(reversed(parameters.items()))
    rebuilt = parameters_of(Skeleton.of(MODEL).model(backwards))
    jax.tree.map(np.testing.assert_array_equal, rebuilt, parameters)


def test_seeds_differ_and_repeat():
    first, again, other = (initial_parameters(MODEL, seed)["embed/table"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0


def test_flops_are_those_of_the_model():
    model = LM(MODEL, rngs=nnx.Rngs(0))
    assert Skeleton.of(MODEL).flops_per_token(16) == model.flops_per_token(16) > 0
