"""The contract of DESIGN, point by point, for every architecture in memjax/mixers.

Nearly all the time is compiling, so the points share programs. A mixer has `call` at WHOLE, BLOCK, SHORT and 1 tokens,
once with packed documents and once in bfloat16, two gradients of a short call, one of 4096 tokens, and the call on
eight devices; a new test keeps to these shapes where it can.
"""

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

# One mixer of each kind, for the second row of versions: a ring of keys, a matrix, a diagonal recurrence, a
# convolution. The ops below the others have tests of their own there; of routers, test_mixture_of_memories does, and of
# tables test_touched_rows.
FAST = {"Attention", "GatedDeltaNet", "LRU", "S4D"}
# One mixer for each op and each way to keep a state: without jit each operation is a program to compile.
EAGER = FAST | {"MixtureOfMemories", "GLA", "HippoLegS", "Mamba2", "S4"}

BLOCK = 64  # the chunk of most ops
SHORT = 3
WHOLE = BLOCK + SHORT


def marks(config):
    """The tests of a mixer share programs, so they stay on one worker."""
    slow = () if config.__name__.removesuffix("Config") in FAST else (pytest.mark.slow,)
    return (pytest.mark.xdist_group(config.__name__), *slow)


pytestmark = pytest.mark.parametrize(
    "config", [pytest.param(c, marks=marks(c)) for c in architectures()], ids=lambda c: c.__name__
)
call = jax.jit(lambda mixer, x, state=None, segment_ids=None: mixer(x, state, segment_ids=segment_ids))


def skip_if_exempt(module, point):
    if exempt(module, point):
        pytest.skip(f"{type(module).__name__} declares itself exempt from {point}")


def has_state(mixer) -> bool:
    """Whether tokens see earlier ones."""
    return bool(jax.tree.leaves(mixer.init_state(1)))


def row(tree, number: int):
    """One row of a batch, as numpy arrays."""
    return jax.tree.map(lambda a: np.asarray(a)[number : number + 1], tree)


def state_after(mixer, batch: int):
    """A state that has seen something."""
    return call(mixer, inputs(batch, SHORT, seed=2), mixer.init_state(batch)).state


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


def test_any_split_equals_one_call(config):
    """A border of chunks inside a piece, at the end of one, and pieces shorter than a chunk."""
    mixer, x = build(config), inputs(2, WHOLE)
    skip_if_exempt(mixer, "split")
    fresh = mixer.init_state(2)
    whole = call(mixer, x, fresh)
    for lengths in ((SHORT, BLOCK), (BLOCK, SHORT)):
        start, state, pieces = 0, fresh, []
        for length in lengths:
            y, state, _ = call(mixer, x[:, start : start + length], state)
            start += length
            pieces.append(y)
        assert_close((np.concatenate(pieces, 1), state), (whole.y, whole.state))


def test_decoding_one_token_at_a_time_equals_one_call(config):
    mixer, x = build(config), inputs(2, WHOLE)
    skip_if_exempt(mixer, "split")
    state, ys = mixer.init_state(2), []
    whole = call(mixer, x, state)
    for t in range(WHOLE):
        y, state, _ = call(mixer, x[:, t : t + 1], state)
        ys.append(y)
    assert_close((np.concatenate(ys, 1), state), (whole.y, whole.state))


def test_no_state_is_an_empty_one(config):
    mixer, x = build(config), inputs(2, SHORT)
    skip_if_exempt(mixer, "split")
    assert_close(call(mixer, x)[:2], call(mixer, x, mixer.init_state(2))[:2])


# (document, tokens) of each row, 0 for padding: before the first document, between two and after the last.
LAYOUT = (
    ((0, 2), (1, SHORT), (2, 1), (0, 3), (3, SHORT), (4, BLOCK)),
    ((1, BLOCK), (2, SHORT), (0, 4), (3, 1), (4, SHORT), (0, 1)),
)
PACKED = np.asarray([[number for number, tokens in row for _ in range(tokens)] for row in LAYOUT], np.int32)


def test_packed_documents_equal_separate_ones(config):
    """The first document goes on from the state, each other one begins anew, the last one's state is handed on."""
    mixer, x = build(config), inputs(2, PACKED.shape[1])
    skip_if_exempt(mixer, "packing")
    state, fresh = state_after(mixer, 2), mixer.init_state(2)
    packed = call(mixer, x, state, PACKED)
    assert np.isfinite(packed.y).all()
    for number in range(2):
        for document in range(1, 5):
            mine = np.flatnonzero(PACKED[number] == document)
            alone = call(mixer, x[:, mine], state if document == 1 else fresh)
            assert_close(row(packed.y, number)[:, mine], row(alone.y, number))
        assert_close(row(packed.state, number), row(alone.state, number))


def test_padding_changes_nothing(config):
    mixer, x = build(config), inputs(2, PACKED.shape[1])
    skip_if_exempt(mixer, "padding")
    state, ids = state_after(mixer, 2), np.zeros_like(PACKED)
    spans = (slice(3, 3 + BLOCK), slice(7, 7 + SHORT))  # of a row's one document
    for number, span in enumerate(spans):
        ids[number, span] = 9
    out = call(mixer, x, state, ids)
    for number, span in enumerate(spans):
        alone = call(mixer, x[:, span], state)
        assert_close(row((out.y[:, span], out.state), number), row(alone[:2], number))
    empty = call(mixer, x, state, np.zeros_like(PACKED))
    assert_close(empty.state, state)
    assert np.isfinite(empty.y).all()


def test_rows_of_a_batch_are_independent(config):
    mixer, x = build(config), inputs(2, WHOLE)
    skip_if_exempt(mixer, "batch")
    changed = x.copy()
    changed[1] = 7.0
    before, after = (row(call(mixer, rows, mixer.init_state(2))[:2], 0) for rows in (x, changed))
    jax.tree.map(np.testing.assert_array_equal, before, after)


@pytest.mark.slow
def test_jit_equals_eager(config):
    mixer, x = build(config), inputs(2, SHORT)
    skip_if_exempt(mixer, "jit")
    if config.__name__.removesuffix("Config") not in EAGER:
        pytest.skip("another mixer calls the same ops without jit")
    out = mixer(jnp.asarray(x))
    assert_close((out.y, out.state), call(mixer, x)[:2])


def test_no_recompile_on_the_second_call(config):
    mixer, x = build(config), inputs(2, SHORT)
    skip_if_exempt(mixer, "jit")
    state = call(mixer, x, mixer.init_state(2)).state
    programs = call._cache_size()
    call(build(config, seed=3), x + 1, state)
    assert call._cache_size() == programs


GRADIENT_TOKENS = 9
ALL_TOKENS = inputs(2, GRADIENT_TOKENS, seed=3)  # a cotangent of y; a square would be blind to what a final norm hides
EACH_TOKEN = np.eye(GRADIENT_TOKENS, dtype=np.float32)[:, None, :, None] * ALL_TOKENS[None]  # [t, B, T, D]


def split_floats(state):
    """The leaves of a state that have a gradient, and the function that puts the state together again."""
    leaves, structure = jax.tree.flatten(state)
    is_float = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]

    def join(floats):
        floats = iter(floats)
        return jax.tree.unflatten(structure, [next(floats) if f else a for a, f in zip(leaves, is_float, strict=True)])

    return [a for a, f in zip(leaves, is_float, strict=True) if f], join


@jax.jit
def gradients(mixer, x, state):
    """Of each token's share of (y * ALL_TOKENS).sum() along the first axis, and behind them of all of it: with respect
    to the mixer, the input and the state."""
    floats, join = split_floats(state)
    _, vjp = jax.vjp(lambda mixer, x, floats: mixer(x, join(floats)).y, mixer, x, floats)
    return jax.lax.map(vjp, np.concatenate([EACH_TOKEN, ALL_TOKENS[None]]))


@jax.jit
def gradients_by_remat_and_vmap(mixer, x, state):
    """The last of `gradients`, through `jax.checkpoint` and a `jax.vmap` over the batch; and the output."""
    floats, join = split_floats(state)
    single = lambda tree: jax.tree.map(lambda a: a[None], tree)

    def loss(mixer, x, floats):
        one = jax.checkpoint(lambda x, state: mixer(single(x), single(state)).y[0])
        y = jax.vmap(one)(x, join(floats))
        return (y * ALL_TOKENS).sum(), y

    return jax.grad(loss, (0, 1, 2), has_aux=True)(mixer, x, floats)


def short_gradients(config):
    mixer = build(config)
    return gradients(mixer, inputs(2, GRADIENT_TOKENS), state_after(mixer, 2))


def test_causal_by_gradient(config):
    """d y[t] / d x[s] = 0 for every s > t; where there is a state, each token sees its past."""
    mixer = build(config)
    skip_if_exempt(mixer, "causality")
    skip_if_exempt(mixer, "gradient")
    influence = np.abs(np.asarray(short_gradients(config)[1])[:-1]).sum(-1)  # [t, B, s]
    for one in np.moveaxis(influence, 1, 0):
        assert np.all(one[np.triu_indices(GRADIENT_TOKENS, 1)] == 0)
        assert np.all(np.diagonal(one) > 0)
        if has_state(mixer):
            reach = getattr(mixer, "reach", GRADIENT_TOKENS)  # a mixer may say that it forgets what is further back
            seen = np.tril(np.ones_like(one, bool)) & ~np.tril(np.ones_like(one, bool), -reach)
            assert np.all(one[seen] > 0), "a token that does not see its past"
            assert np.all(one[~seen] == 0)


def test_every_parameter_and_the_incoming_state_get_a_gradient(config):
    skip_if_exempt(build(config), "gradient")
    of_mixer, _, of_state = short_gradients(config)
    for path, leaf in jax.tree_util.tree_leaves_with_path((of_mixer, of_state)):
        assert np.abs(np.asarray(leaf)).max() > 0, f"no gradient reaches {jax.tree_util.keystr(path)}"


@pytest.mark.slow
def test_remat_and_vmap_keep_the_output_and_the_gradients(config):
    mixer, x = build(config), inputs(2, GRADIENT_TOKENS)
    skip_if_exempt(mixer, "gradient")
    state = state_after(mixer, 2)
    expected = jax.tree.map(lambda a: a[-1], jax.tree.map(np.asarray, short_gradients(config)))
    found, y = gradients_by_remat_and_vmap(mixer, x, state)
    assert_close(found, expected, gradient=True)
    pieces, start = [], 0
    for length in (SHORT, SHORT, SHORT):
        piece, state, _ = call(mixer, x[:, start : start + length], state)
        pieces.append(piece)
        start += length
    assert_close(y, np.concatenate(pieces, 1))


@pytest.mark.slow
def test_bfloat16_in_float32_state(config):
    """Against the same rounded input in float32: the input's own rounding can choose another row of a memory."""
    mixer, x = build(config), inputs(2, WHOLE).astype(jnp.bfloat16)
    skip_if_exempt(mixer, "dtype")
    out = call(mixer, x, mixer.init_state(2))
    assert out.y.dtype == jnp.bfloat16
    assert all(leaf.dtype in (jnp.float32, jnp.int32) for leaf in jax.tree.leaves(out.state))
    whole = call(mixer, x.astype(jnp.float32), mixer.init_state(2))
    assert_close(out.y, whole.y, dtype="bfloat16", factor=3)  # every matrix product rounds, not one


@pytest.mark.slow
def test_gradients_stay_finite_at_4096_tokens_with_strong_gates(config):
    mixer = build(config)
    skip_if_exempt(mixer, "gradient")
    x = 30 * inputs(1, 4096 if has_state(mixer) else 512)  # without a state nothing adds up along time
    gradients = jax.jit(jax.grad(lambda mixer, x: (mixer(x).y ** 2).mean(), (0, 1)))(mixer, x)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(leaf).all(), jax.tree_util.keystr(path)


def test_eight_devices_equal_one(config):
    mixer = build(config)
    x = inputs(8, BLOCK if has_state(mixer) else SHORT)  # tables read for more tokens show nothing more
    skip_if_exempt(mixer, "batch")
    mesh = sharding.make_mesh(data=2, fsdp=4)
    placed = jax.device_put(x, jax.sharding.NamedSharding(mesh, PartitionSpec(("data", "fsdp"))))
    with jax.set_mesh(mesh):
        spread = jax.jit(lambda mixer, x: mixer(x))(mixer, placed)
    assert len(spread.y.sharding.device_set) == 8
    for start in range(0, 8, 2):
        pair = call(mixer, x[start : start + 2], mixer.init_state(2))
        mine = jax.tree.map(lambda a, start=start: np.asarray(a)[start : start + 2], (spread.y, spread.state))
        assert_close(mine, (pair.y, pair.state))


def test_parameter_names_and_shapes_do_not_depend_on_the_seed(config):
    paths = [
        [
            (sharding.path_name(p), leaf.shape)
            for p, leaf in jax.tree_util.tree_leaves_with_path(nnx.state(build(config, s)))
        ]
        for s in (0, 3)
    ]
    assert paths[0] == paths[1] and paths[0]


def test_defaults_at_width_32_stay_below_64_megabytes(config):
    module = build(config)
    held = sum(leaf.nbytes for leaf in jax.tree.leaves((module, module.init_state(1))))
    assert held < 64 * 2**20, f"{config.__name__} holds {held} bytes at width {WIDTH}"
