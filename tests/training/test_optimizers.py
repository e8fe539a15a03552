"""Which parameter gets what, the schedule, and that a stack of layers is a batch of matrices to Muon."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from memjax.config import OptimizerConfig, TableOptimizerConfig
from memjax.mixers import AttentionConfig, GatedDeltaNetConfig
from memjax.models import BlockConfig, LMConfig
from memjax.training import optimizers
from memjax.training.optimizers import Treatment
from memjax.training.skeleton import Skeleton

MUON, DECAYED, PLAIN = Treatment(True, True), Treatment(True, False), Treatment(False, False)


def test_every_parameter_of_a_hybrid_has_the_listed_treatment():
    blocks = (BlockConfig(mixer=GatedDeltaNetConfig(heads=2)), BlockConfig(mixer=AttentionConfig(heads=2)))
    skeleton = Skeleton.of(LMConfig(vocab_size=8, width=8, blocks=blocks, tie_embeddings=False))
    delta, attention = "blocks/0/mixer", "blocks/1/mixer"
    expected = {
        "embed/table": PLAIN,
        "head/kernel": DECAYED,
        "final_norm/scale": PLAIN,
        f"{delta}/A_log": PLAIN,
        f"{delta}/dt_bias": PLAIN,
        f"{delta}/norm/scale": PLAIN,
        **{f"{delta}/conv_{name}/kernel": DECAYED for name in ("query", "key", "value")},
        **{f"{delta}/{name}/kernel": MUON for name in ("query", "key", "value", "gate", "decay", "beta", "output")},
        **{f"{attention}/{name}/kernel": MUON for name in ("query", "key", "value", "output")},
        **{f"blocks/{i}/{norm}/scale": PLAIN for i in (0, 1) for norm in ("mixer_norm", "mlp_norm")},
        **{f"blocks/{i}/mlp/{name}/kernel": MUON for i in (0, 1) for name in ("gate", "up", "down")},
    }
    assert optimizers.treatments(skeleton.abstract) == expected


def test_schedule_warms_up_and_ends_at_its_own_length():
    config = OptimizerConfig(learning_rate=2.0, warmup_steps=4, schedule_steps=12, final_fraction=0.25)
    rate = optimizers.schedule(config, steps=100)
    np.testing.assert_allclose([rate(i) for i in (0, 1, 3)], [0.5, 1.0, 2.0])
    np.testing.assert_allclose(rate(7), 2 * (0.25 + 0.75 * 0.5), rtol=1e-6)  # half-way down the cosine
    np.testing.assert_allclose([rate(11), rate(50)], [0.5, 0.5], rtol=1e-6)
    assert float(optimizers.schedule(OptimizerConfig(warmup_steps=0, learning_rate=1.0), 10)(0)) > 0.9


@pytest.mark.parametrize(("shape", "half_way"), [("constant", 1.0), ("linear", 0.625), ("cosine", 0.625)])
def test_the_schedule_of_tables_has_three_shapes_and_the_main_length(shape, half_way):
    table = TableOptimizerConfig(learning_rate=2.0, warmup_steps=4, schedule=shape, final_fraction=0.25)
    config = OptimizerConfig(learning_rate=9.0, warmup_steps=1, schedule_steps=12, final_fraction=0.9, table=table)
    rate = optimizers.table_schedule(config, steps=100)
    np.testing.assert_allclose([rate(i) for i in (0, 1, 3, 7)], [0.5, 1.0, 2.0, 2 * half_way], rtol=1e-6)
    quarter = {"constant": 1.0, "linear": 0.8125, "cosine": 0.25 + 0.75 * 0.5 * (1 + 0.5**0.5)}[shape]
    np.testing.assert_allclose(rate(5), 2 * quarter, rtol=1e-6)
    end = 2.0 if shape == "constant" else 0.5
    np.testing.assert_allclose([rate(11), rate(50)], [end, end], rtol=1e-6)


@pytest.fixture
def parameters():
    rng = np.random.default_rng(0)
    shapes = {"blocks/0/mixer/query/kernel": (3, 8, 4), "blocks/0/mixer/A_log": (3, 2), "embed/table": (5, 8)}
    return {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()}


def updates(config, parameters, gradients):
    optimizer = optimizers.build(config, parameters, steps=10)
    return optimizer.update(gradients, optimizer.init(parameters), parameters)[0]


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_without_gradient_only_decayed_parameters_shrink(parameters, name):
    config = OptimizerConfig(name=name, learning_rate=0.1, warmup_steps=0, final_fraction=1.0, weight_decay=0.5)
    change = updates(config, parameters, jax.tree.map(jnp.zeros_like, parameters))
    kernel = "blocks/0/mixer/query/kernel"
    np.testing.assert_allclose(change[kernel], -0.05 * parameters[kernel], rtol=1e-5)
    assert all(np.all(change[other] == 0) for other in ("blocks/0/mixer/A_log", "embed/table"))


def test_adamw_is_that_of_optax(parameters):
    config = OptimizerConfig(learning_rate=0.1, warmup_steps=0, final_fraction=1.0, weight_decay=0.0)
    gradients = jax.tree.map(jnp.sin, parameters)
    adam = optax.adamw(0.1, b1=config.b1, b2=config.b2, eps=config.eps, weight_decay=0.0)
    expected = adam.update(gradients, adam.init(parameters), parameters)[0]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), updates(config, parameters, gradients), expected
    )


def test_muon_treats_the_stack_of_layers_as_a_batch(parameters):
    config = OptimizerConfig(name="muon", learning_rate=0.1, warmup_steps=0, final_fraction=1.0, weight_decay=0.0)
    kernel = "blocks/0/mixer/query/kernel"
    gradients = jax.tree.map(jnp.sin, parameters)
    together = updates(config, parameters, gradients)[kernel]
    for layer in range(3):
        one = functools.partial(only, kernel, layer)
        np.testing.assert_allclose(
            together[layer], updates(config, one(parameters), one(gradients))[kernel][0], rtol=1e-4
        )
        singular = np.linalg.svd(np.asarray(together[layer]), compute_uv=False)
        # a polar factor has singular values 1 (five Newton-Schulz steps: 0.7 to 1.2), times lr * 0.2 * sqrt(max side)
        assert np.all((singular / (0.1 * 0.2 * 8**0.5) > 0.6) & (singular / (0.1 * 0.2 * 8**0.5) < 1.3))


def only(name, layer, tree):
    return {name: tree[name][layer : layer + 1]}


def test_clip_by_norm():
    gradients = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])}
    clipped = optimizers.clip_by_norm(gradients, jnp.asarray(5.0), 1.0)
    np.testing.assert_allclose(clipped["a"], [0.6, 0.0])
    for limit in (None, 10.0):
        np.testing.assert_array_equal(optimizers.clip_by_norm(gradients, jnp.asarray(5.0), limit)["b"], [4.0])
    assert np.isnan(optimizers.clip_by_norm(gradients, jnp.asarray(np.nan), 1.0)["a"]).all()
