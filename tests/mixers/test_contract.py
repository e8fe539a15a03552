"""The contract of DESIGN, point by point, for every architecture in memjax/mixers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from memjax import sharding
from memjax.types import MixerOutput
from tests.mixers.contract import WIDTH, architectures, build, exempt, inputs
from tests.tolerances import assert_close

# One mixer for each op and each way to keep a state; the others rest on the same ops, and no fast test takes them.
REPRESENTATIVE = {"Attention", "GatedDeltaNet", "GLA", "HippoLegS", "LRU", "Mamba2", "MixtureOfMemories", "S4", "S4D"}


def marks(config):
    """The tests of a mixer share programs, so they stay on one worker."""
    slow = () if config.__name__.removesuffix("Config") in REPRESENTATIVE else (pytest.mark.slow,)
    return (pytest.mark.xdist_group(config.__name__), *slow)


pytestmark = pytest.mark.parametrize(
    "config", [pytest.param(c, marks=marks(c)) for c in architectures()], ids=lambda c: c.__name__
)
call = jax.jit(lambda mixer, x, state=None, segment_ids=None: mixer(x, state, segment_ids=segment_ids))


SHORT = 10  # the length of most tests here: one program serves them all


def skip_if_exempt(module, point):
    if exempt(module, point):
        pytest.skip(f"{type(module).__name__} declares itself exempt from {point}")


def test_output_is_a_mixer_output_and_the_config_is_a_frozen_value(config):
    mixer, x = build(config), inputs(2, SHORT)
    out = call(mixer, x)
    assert isinstance(out, MixerOutput)
    assert out.y.shape == x.shape and out.y.dtype == x.dtype
    assert hash(config()) == hash(config()) and config() == config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config(), dataclasses.fields(config)[0].name, None)
    initial = mixer.init_state(2)
    assert jax.tree.structure(initial) == jax.tree.structure(out.state)
    assert [a.shape for a in jax.tree.leaves(initial)] == [a.shape for a in jax.tree.leaves(out.state)]


def test_causal_by_gradient(config):
    """d y[t] / d x[s] = 0 for every s > t, as a matrix of gradient norms."""
    mixer = build(config)
    skip_if_exempt(mixer, "causality")
    x = inputs(1, 9)
    jacobian = jax.jit(jax.jacrev(lambda x: mixer(x).y[0]))(x)[:, :, 0]  # [t, D, s, D]
    influence = np.asarray(jnp.abs(jacobian).sum((1, 3)))
    assert np.all(influence[np.triu_indices(9, 1)] == 0)
    assert np.all(influence[np.tril_indices(9)] > 0), "a token that does not see its past proves nothing"


def test_any_split_equals_one_call(config):
    """Cuts inside a chunk and around its border; pieces share lengths, for each length is a program to compile."""
    mixer, x = build(config), inputs(2, 70)
    skip_if_exempt(mixer, "split")
    fresh = mixer.init_state(2)
    whole = call(mixer, x, fresh)
    for cuts in ((1, 2, 3), (67,), (3, 67)):
        state, pieces = fresh, []
        for start, stop in zip((0, *cuts), (*cuts, 70), strict=True):
            y, state, _ = call(mixer, x[:, start:stop], state)
            pieces.append(y)
        assert_close((jnp.concatenate(pieces, 1), state), (whole.y, whole.state))


@pytest.mark.slow
def test_no_state_is_an_empty_one(config):
    mixer, x = build(config), inputs(2, SHORT)
    skip_if_exempt(mixer, "split")
    assert_close(call(mixer, x)[:2], call(mixer, x, mixer.init_state(2))[:2])


def test_decoding_one_token_at_a_time_equals_one_call(config):
    mixer, x = build(config), inputs(2, SHORT)
    skip_if_exempt(mixer, "split")
    whole = call(mixer, x)
    step = lambda state, token: call(mixer, token[:, None], state)[1::-1]
    state, ys = jax.lax.scan(step, mixer.init_state(2), jnp.moveaxis(x, 1, 0))
    assert_close((jnp.moveaxis(ys[:, :, 0], 0, 1), state), (whole.y, whole.state))


@pytest.mark.slow
def test_packed_documents_equal_separate_ones(config):
    mixer = build(config)
    skip_if_exempt(mixer, "packing")
    lengths, x = (9, 1, 9, 44), inputs(1, 68)
    ids, gaps = [], (2, 0, 3, 0)  # padding before the first, between the second and third
    for number, (length, gap) in enumerate(zip(lengths, gaps, strict=True), start=1):
        ids += [0] * gap + [number] * length
    ids = jnp.asarray([ids], jnp.int32)
    start_state = call(mixer, inputs(1, 9, seed=2), mixer.init_state(1)).state
    packed = call(mixer, x, start_state, ids)
    for number in range(1, 5):
        mine = np.flatnonzero(np.asarray(ids[0]) == number)
        alone = call(mixer, x[:, mine], start_state if number == 1 else mixer.init_state(1))
        assert_close(packed.y[:, mine], alone.y)
    assert_close(packed.state, alone.state)
    assert np.isfinite(packed.y).all()


@pytest.mark.slow
def test_padding_changes_nothing(config):
    mixer, x = build(config), inputs(2, 20)
    skip_if_exempt(mixer, "padding")
    state = call(mixer, inputs(2, SHORT, seed=2)).state
    ids = np.zeros((2, 20), np.int32)
    ids[0, 3:13] = ids[1, 7:17] = 9
    out = call(mixer, x, state, jnp.asarray(ids))
    for row, start in ((0, 3), (1, 7)):
        one = lambda tree, row=row: jax.tree.map(lambda a: a[row : row + 1], tree)
        alone = call(mixer, x[row : row + 1, start : start + 10], one(state))
        assert_close((out.y[row : row + 1, start : start + 10], one(out.state)), (alone.y, alone.state))
    empty = call(mixer, x, state, jnp.zeros((2, 20), jnp.int32))
    assert_close(empty.state, state)
    assert np.isfinite(empty.y).all()


def test_rows_of_a_batch_are_independent(config):
    mixer, x = build(config), inputs(2, SHORT)
    skip_if_exempt(mixer, "batch")
    changed = call(mixer, x.at[1].set(7.0)).y
    np.testing.assert_array_equal(changed[0], call(mixer, x).y[0])


@pytest.mark.slow
def test_jit_equals_eager_and_vmap_adds_a_batch_axis(config):
    mixer, x = build(config), inputs(2, SHORT)
    skip_if_exempt(mixer, "jit")
    assert_close(mixer(x).y, call(mixer, x).y)
    mapped = jax.vmap(lambda x: mixer(x[None]).y[0])(x)
    assert_close(mapped, call(mixer, x).y)


@pytest.mark.slow
def test_remat_keeps_the_gradients(config):
    mixer, x = build(config), inputs(1, 10)
    skip_if_exempt(mixer, "gradient")
    weights = inputs(1, 10, seed=2)  # a square would be blind to what a final norm takes out: gradients that cancel
    loss = lambda f: jax.jit(jax.grad(lambda mixer: (f(mixer, x) * weights).sum()))(mixer)
    plain = lambda mixer, x: mixer(x).y
    assert_close(loss(jax.checkpoint(plain)), loss(plain), gradient=True)


def test_every_parameter_and_the_incoming_state_get_a_gradient(config):
    mixer, x = build(config), inputs(2, SHORT)
    skip_if_exempt(mixer, "gradient")
    state = call(mixer, inputs(2, SHORT, seed=2)).state
    floats, structure = jax.tree.flatten(state)
    is_float = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in floats]

    def loss(mixer, chosen):
        chosen = iter(chosen)
        leaves = [next(chosen) if f else leaf for leaf, f in zip(floats, is_float, strict=True)]
        return (mixer(x, jax.tree.unflatten(structure, leaves)).y ** 2).sum()

    of_mixer, of_state = jax.jit(jax.grad(loss, (0, 1)))(mixer, [a for a, f in zip(floats, is_float, strict=True) if f])
    for path, leaf in jax.tree_util.tree_leaves_with_path((of_mixer, of_state)):
        assert np.abs(np.asarray(leaf)).max() > 0, f"no gradient reaches {jax.tree_util.keystr(path)}"


@pytest.mark.slow
def test_bfloat16_in_float32_state(config):
    mixer, x = build(config), inputs(2, SHORT)
    skip_if_exempt(mixer, "dtype")
    out = call(mixer, x.astype(jnp.bfloat16))
    assert out.y.dtype == jnp.bfloat16
    assert all(leaf.dtype in (jnp.float32, jnp.int32) for leaf in jax.tree.leaves(out.state))
    assert_close(out.y, call(mixer, x).y, dtype="bfloat16", factor=3)  # every matrix product rounds, not one


@pytest.mark.slow
def test_gradients_stay_finite_at_4096_tokens_with_strong_gates(config):
    mixer, x = build(config), 30 * inputs(1, 4096)
    skip_if_exempt(mixer, "gradient")
    gradients = jax.jit(jax.grad(lambda mixer, x: (mixer(x).y ** 2).mean(), (0, 1)))(mixer, x)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(leaf).all(), jax.tree_util.keystr(path)


def test_eight_devices_equal_one(config):
    mixer, x = build(config), inputs(8, 12)
    skip_if_exempt(mixer, "batch")
    mesh = sharding.make_mesh(data=2, fsdp=4)
    whole = call(mixer, x)
    placed = jax.device_put(x, jax.sharding.NamedSharding(mesh, PartitionSpec(("data", "fsdp"))))
    with jax.set_mesh(mesh):
        spread = jax.jit(lambda mixer, x: mixer(x))(mixer, placed)
    assert len(spread.y.sharding.device_set) == 8
    assert_close((spread.y, spread.state), (whole.y, whole.state))


def test_no_recompile_on_the_second_call(config):
    mixer, x = build(config), inputs(2, 6)
    skip_if_exempt(mixer, "jit")
    step = jax.jit(lambda mixer, x, state: mixer(x, state))
    _, state, _ = step(mixer, x, mixer.init_state(2))
    step(build(config, seed=3), x + 1, state)
    assert step._cache_size() == 1


def test_parameter_names_and_shapes_do_not_depend_on_the_seed(config):
    paths = [
        [
            (sharding.path_name(p), leaf.shape)
            for p, leaf in jax.tree_util.tree_leaves_with_path(nnx.state(build(config, s)))
        ]
        for s in (0, 1)
    ]
    assert paths[0] == paths[1] and paths[0]


def test_defaults_at_width_32_stay_below_64_megabytes(config):
    module = build(config)
    held = sum(leaf.nbytes for leaf in jax.tree.leaves((module, module.init_state(1))))
    assert held < 64 * 2**20, f"{config.__name__} holds {held} bytes at width {WIDTH}"
