"""The table of partition specs, and a real model placed by it on eight CPU devices."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from memjax.mixers import AttentionConfig, GatedDeltaNetConfig
from memjax.models import LM, BlockConfig, LMConfig
from memjax.sharding import BATCH, RULES, batch_sharding, make_mesh, path_name, replicated, shardings, spec_for
from memjax.types import MESH_AXES

CONFIG = LMConfig(
    vocab_size=64,
    width=32,
    blocks=(BlockConfig(mixer=GatedDeltaNetConfig(heads=2, head_dim=8)), BlockConfig(mixer=AttentionConfig(heads=2))),
    tie_embeddings=False,
)
LAYOUTS = [{"data": 8}, {"fsdp": 8}, {"data": 2, "fsdp": 2, "tensor": 2}]
COLUMN, ROW, VECTOR = P(None, "fsdp", "tensor"), P(None, "tensor", "fsdp"), P()
CONV = P(None, None, "tensor")

# Every parameter of the model under data 2 x fsdp 2 x tensor 2.
SPECS = {
    "embed/table": P("tensor", "fsdp"),
    "final_norm/scale": VECTOR,
    "head/kernel": P("fsdp", "tensor"),
    "blocks/0/mixer/A_log": VECTOR,
    "blocks/0/mixer/dt_bias": VECTOR,
    "blocks/0/mixer/beta/kernel": COLUMN,
    "blocks/0/mixer/decay/kernel": COLUMN,
    "blocks/0/mixer/gate/kernel": COLUMN,
    "blocks/0/mixer/key/kernel": COLUMN,
    "blocks/0/mixer/query/kernel": COLUMN,
    "blocks/0/mixer/value/kernel": COLUMN,
    "blocks/0/mixer/output/kernel": ROW,
    "blocks/0/mixer/conv_key/kernel": CONV,
    "blocks/0/mixer/conv_query/kernel": CONV,
    "blocks/0/mixer/conv_value/kernel": CONV,
    "blocks/0/mixer/norm/scale": VECTOR,
    "blocks/0/mixer_norm/scale": VECTOR,
    "blocks/0/mlp_norm/scale": VECTOR,
    "blocks/0/mlp/gate/kernel": COLUMN,
    "blocks/0/mlp/up/kernel": COLUMN,
    "blocks/0/mlp/down/kernel": ROW,
    "blocks/1/mixer/key/kernel": COLUMN,
    "blocks/1/mixer/query/kernel": COLUMN,
    "blocks/1/mixer/value/kernel": COLUMN,
    "blocks/1/mixer/output/kernel": ROW,
    "blocks/1/mixer_norm/scale": VECTOR,
    "blocks/1/mlp_norm/scale": VECTOR,
    "blocks/1/mlp/gate/kernel": COLUMN,
    "blocks/1/mlp/up/kernel": COLUMN,
    "blocks/1/mlp/down/kernel": ROW,
}


@functools.cache
def model():
    return LM(CONFIG, rngs=nnx.Rngs(0))


def named(tree):
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def parameters():
    return nnx.split(model())[1]


def test_every_parameter_has_the_listed_spec():
    mesh = make_mesh(data=2, fsdp=2, tensor=2)
    specs = {name: place.spec for name, place in named(shardings(parameters(), mesh)).items()}
    assert specs == SPECS


def test_the_last_rule_catches_no_parameter_of_the_library():
    caught = [name for name in named(parameters()) if not any(re.search(pattern, name) for pattern, _ in RULES[:-1])]
    assert caught == []


def test_a_module_its_state_and_a_flat_dictionary_have_the_same_names():
    names = sorted(named(parameters()))
    assert sorted(named(model())) == names
    assert sorted(named(dict.fromkeys(names, 0))) == names
    assert sorted(named(nnx.to_pure_dict(parameters()))) == names


def test_path_name_keeps_a_layer_called_value():
    assert path_name((jax.tree_util.DictKey("value"), jax.tree_util.GetAttrKey("value"))) == "value"
    assert path_name((jax.tree_util.SequenceKey(0), jax.tree_util.GetAttrKey("mu"))) == "0/mu"


@pytest.mark.parametrize(
    ("name", "shape", "spec"),
    [
        ("blocks/0/mixer/query/kernel", (3, 6, 10), COLUMN),
        ("blocks/0/mixer/query/kernel", (3, 7, 10), P(None, None, "tensor")),  # fsdp does not divide 7
        ("blocks/0/mixer/query/kernel", (3, 6, 5), P(None, "fsdp", None)),
        ("blocks/0/mixer/query/kernel", (3, 7, 5), P()),
        ("embed/table", (257, 6), P(None, "fsdp")),
        ("blocks/0/mixer/mystery", (2, 8), P()),  # a stacked vector
        ("blocks/0/mixer/mystery", (2, 8, 8), COLUMN),  # a stacked matrix of an unknown mixer
        ("blocks/0/mixer/mystery", (2, 4, 8, 8), P(None, None, "fsdp", "tensor")),
        ("memory/values", (64, 8), P("fsdp", "tensor")),
        ("memory/gain", (64,), P()),
        ("count", (), P()),
    ],
)
def test_spec_for(name, shape, spec):
    assert spec_for(name, shape, make_mesh(data=2, fsdp=2, tensor=2)) == spec


def test_axes_of_size_one_are_left_out():
    assert spec_for("embed/table", (64, 32), make_mesh(data=8)) == P()
    assert spec_for("embed/table", (64, 32), make_mesh(fsdp=8)) == P(None, "fsdp")


@pytest.mark.parametrize("make", [optax.adamw, optax.lion])
def test_optimizer_state_lies_where_its_parameter_lies(make):
    mesh = make_mesh(data=2, fsdp=2, tensor=2)
    flat = named(parameters())
    state = jax.eval_shape(make(1e-3).init, flat)
    places = named(shardings(state, mesh))
    slots = {name: place for name, place in places.items() if "/mu/" in name or "/nu/" in name}
    assert len(slots) == len(flat) * (2 if make is optax.adamw else 1)
    for name, place in slots.items():
        assert place.spec == SPECS[name.split("u/", 1)[1]]
    assert all(place.spec == P() for name, place in places.items() if name not in slots)


def placed(mesh):
    graphdef, params = nnx.split(model())
    return graphdef, jax.device_put(params, shardings(params, mesh))


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_model_is_placed_by_the_table(layout):
    mesh = make_mesh(**layout)
    for name, leaf in named(placed(mesh)[1]).items():
        spec = spec_for(name, leaf.shape, mesh)
        pieces = np.prod([mesh.shape[axis] for axis in spec if axis is not None], dtype=int)
        assert leaf.sharding.is_equivalent_to(NamedSharding(mesh, spec), leaf.ndim)
        assert leaf.addressable_shards[0].data.size == leaf.size // pieces
        assert len(leaf.sharding.device_set) == 8


def test_fsdp_splits_the_matrices():
    for name, leaf in named(placed(make_mesh(fsdp=8))[1]).items():
        split = leaf.addressable_shards[0].data.size == leaf.size // 8
        assert split == (leaf.ndim >= 2 + name.startswith("blocks") and "conv" not in name), name


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_sharded_forward_pass_equals_the_plain_one(layout):
    mesh = make_mesh(**layout)
    tokens = jax.random.randint(jax.random.key(1), (8, 24), 0, CONFIG.vocab_size)
    segments = jnp.repeat(jnp.array([[1, 2, 0]]), 8, axis=0).repeat(8, axis=1)
    graphdef, params = nnx.split(model())

    def forward(parameters, tokens, segments):
        return nnx.merge(graphdef, parameters)(tokens, segment_ids=segments).logits

    expected = jax.jit(forward)(params, tokens, segments)
    split = jax.device_put((tokens, segments), batch_sharding(mesh))
    got = jax.jit(forward)(placed(mesh)[1], *split)
    assert len(got.sharding.device_set) == 8
    error = np.sqrt(np.mean((np.asarray(got) - np.asarray(expected)) ** 2) / np.mean(np.asarray(expected) ** 2))
    assert error < 1e-5  # relative root mean square; sums run in another order


def test_make_mesh():
    mesh = make_mesh(data=2, fsdp=-1, tensor=2)
    assert mesh.axis_names == MESH_AXES
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "sequence": 1, "tensor": 2}
    assert set(mesh.axis_types) == {AxisType.Auto}
    assert make_mesh().size == 1
    assert make_mesh(data=2, devices=jax.devices()[4:6]).devices.ravel().tolist() == jax.devices()[4:6]


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"data": 16}, "number of devices: 8"),
        ({"data": 3, "tensor": 3}, "number of devices: 8"),
        ({"data": 3, "fsdp": -1}, "number of devices: 8"),
        ({"data": 16, "fsdp": -1}, "number of devices: 8"),
        ({"data": 0}, "positive"),
        ({"data": -2}, "positive"),
        ({"data": -1, "fsdp": -1}, "at most one"),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(sizes, words):
    with pytest.raises(ValueError, match=words):
        make_mesh(**sizes)


def test_batches_are_split_over_data_and_fsdp():
    mesh = make_mesh(data=2, fsdp=2, tensor=2)
    assert batch_sharding(mesh).spec == BATCH == P(("data", "fsdp"))
    assert batch_sharding(mesh, axis=1).spec == P(None, ("data", "fsdp"))
    rows = jax.device_put(jnp.zeros((3, 8, 5)), batch_sharding(mesh, axis=1))
    assert rows.addressable_shards[0].data.shape == (3, 2, 5)
    assert jax.device_put(jnp.zeros(4), replicated(mesh)).is_fully_replicated
