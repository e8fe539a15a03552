"""Mixture-of-Memories against a plain loop in float64 that keeps the memories and takes one token at a time."""

from functools import cache
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memjax.mixers import GatedDeltaNetConfig, MixtureOfMemoriesConfig
from memjax.mixers.mixture_of_memories import MixtureOfMemoriesState
from memjax.ops import chunking
from tests.tolerances import GRADIENT_TOLERANCES, assert_close

pytestmark = pytest.mark.xdist_group("MixtureOfMemories")  # the tests share programs, so they stay on one worker

D, T = 8, 40  # a chunk is 16 places: the shared memory fills three, a popular one two
SIZES = {"heads": 2, "head_dim": 4, "expand_v": 0.75}
IDS = np.zeros((2, T), np.int32)
IDS[0, 2:20], IDS[0, 20:21], IDS[0, 24:30], IDS[0, 31:39] = 5, 2, 9, 9  # padding before, between, inside no document
IDS[1, :33], IDS[1, 33] = 1, 2  # two memories never see the last document, which is one token


CANCELLATION = 5  # the two numbers of dt_bias or A_log may get gradients that are small sums of large ones
LINEAR = {"rule": "linear_attention", "shared": False, "memories": 3}
OTHERS = {"negative_eigenvalues": True, "conv_width": 3}


def build(config):
    """A mixer whose parameters are all normal numbers: none sits at a special value, and nothing is compiled."""
    graphdef, params = nnx.split(nnx.eval_shape(lambda: config.make(D, rngs=nnx.Rngs(0))))
    return nnx.merge(graphdef, jax.tree.map(lambda leaf: 0.5 * leaf, draw(np.random.default_rng(0), params)))


def draw(rng, tree):
    """Normal numbers in the shapes of a tree."""
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), tree)


def weighted(outputs, weights):
    return sum((a * b).sum() for a, b in zip(jax.tree.leaves(outputs), jax.tree.leaves(weights), strict=True))


@cache
def program(**fields):
    """A mixture's parameters, its state, and a compiled function: (params, x, state), ids and weights of the outputs to
    ((y, state, balance loss), metrics) and the gradients of the weighted sum of these outputs.

    Some run the rows of batch and heads in two parts, as large heads do on a CPU.
    """
    graphdef, params = nnx.split(build(MixtureOfMemoriesConfig(**(SIZES | fields))))

    def loss(inputs, ids, weights):
        params, x, state = inputs
        y, state, aux = nnx.merge(graphdef, params)(x, state, segment_ids=ids)
        outputs = (y, state, aux["loss/router_balance"])
        return weighted(outputs, weights), (outputs, aux)

    compiled = jax.jit(jax.grad(loss, has_aux=True))

    def run(*inputs):
        with mock.patch.object(chunking, "_cpu_parts", lambda rows, work: 2 if fields in (OTHERS, LINEAR) else 1):
            return compiled(*inputs)

    return params, graphdef, run


def sample(rng, fields, batch=1):
    """Inputs of a program, and weights of its outputs."""
    params, graphdef, _ = program(**fields)
    state = draw(rng, nnx.merge(graphdef, params).init_state(batch))
    x = draw(rng, np.zeros((batch, T, D)))
    return (params, x, state), draw(rng, (x, state, np.zeros(())))


def config_of(**fields):
    params, graphdef, _ = program(**fields)
    return nnx.merge(graphdef, params).config


def plain(inputs):
    """The parameters as a dictionary."""
    return nnx.to_pure_dict(inputs[0]), *inputs[1:]


def changed(params, **edits):
    """The same parameters, but for those whose path ends in a name of `edits`, old to new."""

    def edit(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value").replace(".", "_")
        return next((f(leaf) for end, f in edits.items() if name.endswith(end)), leaf)

    return jax.tree_util.tree_map_with_path(edit, params)


# The paper's equations, a token after the other, analytic in every input: an imaginary step gives exact derivatives.


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def convolve(kernel, z, past):
    window = np.concatenate([past, z[None]])
    past[:] = window[1:]
    return (kernel * window).sum(0)


def write(config, p, own, source, memory, k, v):
    """The rule of one memory [H, K, V], in place."""
    gates = own.get("decay", np.zeros((len(source), 0)))
    if config.rule in ("gated_delta_net", "mamba2"):
        step = np.log1p(np.exp(source @ gates + p["dt_bias"]))
        memory *= np.exp(-np.exp(p["A_log"]) * step)[:, None, None]
    if config.rule == "gated_delta_net":
        k = k / np.sqrt((k * k).sum(-1, keepdims=True) + 1e-6)
        beta = (1 + config.negative_eigenvalues) * sigmoid(source @ own["beta"])
        v = beta[:, None] * (v - np.einsum("hkv,hk->hv", memory, k))
    elif config.rule == "mamba2":
        k = step[:, None] * k
    elif config.rule == "gla":
        memory *= sigmoid(source @ gates @ own["decay_up"]).reshape(config.heads, -1, 1) ** (1 / 16)
    memory += k[:, :, None] * v[:, None, :]


def token(config, p, x, memory, past):
    """y of one token; memory [S, H, K, V] and past [S, W-1, F] (or [W-1, D], before the routing) change in place."""
    probability = np.exp(x @ p["router"]["kernel"])
    chosen = np.argsort(-(probability / probability.sum()).real)[: config.topk]
    weights = dict(zip(chosen, probability[chosen] / probability[chosen].sum(), strict=True))
    if config.shared:
        weights[config.memories] = 1
    by_sequence, o = config.conv_on == "sequence", 0
    source = convolve(p["conv"]["kernel"], x, past) if by_sequence else x
    for m, weight in weights.items():
        own = {name: leaf[0 if config.shared_projections else m] for name, leaf in p["own"].items()}
        z = np.concatenate([source @ p["query"]["kernel"], source @ own["key"], source @ own["value"]])
        z = z if by_sequence else convolve(p["conv"]["kernel"], z, past[m])
        keys = config.heads * config.head_dim
        q, k, v = (a.reshape(config.heads, -1) for a in np.split(z * sigmoid(z), (keys, 2 * keys)))
        write(config, p, own, source, memory[m], k, v)
        if config.rule == "gated_delta_net":
            q = q / np.sqrt((q * q).sum(-1, keepdims=True) + 1e-6)
        o = o + weight * np.einsum("hkv,hk->hv", memory[m], q) / config.head_dim**0.5
    o = o / np.sqrt((o * o).mean(-1, keepdims=True) + config.norm_epsilon) * p["norm"]["scale"]
    gate = x @ p["gate"]["kernel"]
    return (o.reshape(-1) * gate * sigmoid(gate)) @ p["output"]["kernel"]


def loop(config, inputs, ids):
    """y (zero at padding), the state and the balance loss of all rows, complex."""
    p, x, state = jax.tree.map(lambda leaf: np.array(leaf, np.complex128), inputs)
    join = lambda own, shared: own if shared is None else np.concatenate([own, shared[:, None]], axis=1)
    memory, past, y = join(state.memory, state.shared), join(state.conv, state.shared_conv), np.zeros_like(x)
    for row, t in np.argwhere(ids > 0):
        if ids[row, :t].any() and ids[row, t] != ids[row, t - 1]:
            memory[row], past[row] = 0, 0
        y[row, t] = token(config, p, x[row, t], memory[row], past[row])
    m = config.memories
    apart = lambda joined, shared: (joined, None) if shared is None else (joined[:, :m], joined[:, m])
    (memory, shared), (past, shared_past) = apart(memory, state.shared), apart(past, state.shared_conv)
    probability = np.exp(x[ids > 0] @ p["router"]["kernel"])
    probability = probability / probability.sum(-1, keepdims=True)
    rank = (probability.real[:, None, :] > probability.real[:, :, None]).sum(-1)
    balance = config.balance_weight * m * ((rank < config.topk).mean(0) * probability.mean(0)).sum()
    return y, MixtureOfMemoriesState(memory, past, shared, shared_past), balance


def check_against_loop(rng, fields, ids):
    """Values, and the derivative along one random direction in each parameter, in x and in each part of the state."""
    batch = 1 if ids is None else len(ids)
    inputs, weights = sample(rng, fields, batch)
    number = np.ones((batch, T), np.int32) if ids is None else ids
    live = (number > 0)[..., None]
    weights = (jnp.where(live, weights[0], 0), *weights[1:])  # outputs at padding are undefined
    config, run = config_of(**fields), program(**fields)[2]
    gradients, (outputs, aux) = run(inputs, ids if ids is None else jnp.asarray(ids), weights)
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, plain(inputs)))
    expected = jax.tree.map(np.real, loop(config, plain(inputs), number))
    assert_close((np.where(live, outputs[0], 0), *outputs[1:]), expected, dtype="float32")
    exactly = jax.tree.map(np.float64, weights)
    for i, (path, gradient) in enumerate(jax.tree_util.tree_leaves_with_path(plain(gradients))):
        gradient = np.asarray(gradient, np.float64)
        direction = rng.normal(size=gradient.shape)
        moved = [leaf + 1e-30j * direction if i == j else leaf for j, leaf in enumerate(leaves)]
        exact = weighted(loop(config, jax.tree.unflatten(structure, moved), number), exactly).imag * 1e30
        error = abs((gradient * direction).sum() - exact) / np.linalg.norm(gradient)
        limit = CANCELLATION * GRADIENT_TOLERANCES["float32"]
        assert error < limit, f"{jax.tree_util.keystr(path)}: {error:.3g}"  # written so that a gradient of zero fails
    return inputs, weights, (outputs, gradients, aux)


def test_equals_the_loop(rng):
    aux = check_against_loop(rng, {}, None)[2][2]
    share = np.asarray([aux[f"metric/router_share_{m}"] for m in range(4)])
    assert share.max() * T > 16, "no routed memory crosses a border of chunks"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "ids"),
    [
        ({"rule": "gla", "shared_projections": True, "gate_rank": 3}, IDS[:1]),
        ({"rule": "mamba2", "conv_on": "sequence"}, IDS[:1]),
        (LINEAR, None),
    ],
    ids=lambda case: case["rule"] if isinstance(case, dict) else "",
)
def test_options_equal_the_loop(fields, ids, rng):
    check_against_loop(rng, fields, ids)


@pytest.mark.slow
def test_packed_documents_equal_the_loop_and_the_masked_form(rng):
    inputs, weights, (outputs, gradients, aux) = check_against_loop(rng, OTHERS, IDS)
    of_dense, (dense, dense_aux) = program(**OTHERS, dispatch="dense")[2](inputs, jnp.asarray(IDS), weights)
    assert_close((outputs[0][IDS > 0], *outputs[1:]), (dense[0][IDS > 0], *dense[1:]))
    assert_close(gradients, of_dense, gradient=True, factor=CANCELLATION)
    assert_close(aux, dense_aux)


@pytest.mark.slow
def test_no_token_sees_a_later_one(rng):
    """One row, the convolution on, cuts around the borders of chunks: exact zeros, and later tokens change no value."""
    (params, x, state), weights = sample(rng, {})
    zeros, run = jax.tree.map(np.zeros_like, weights), program()[2]
    x, elsewhere = np.asarray(x), 3 * rng.normal(size=x.shape).astype(np.float32)
    for t in (0, 1, 3, 15, 16, 17, 31, 32, T - 1):
        now = (np.arange(T) == t)[None, :, None]
        weights = (jnp.asarray(np.where(now, 1 + np.arange(D) % 3, zeros[0]), jnp.float32), *zeros[1:])
        (_, of_x, _), ((y, *_), _) = jax.device_get(run((params, x, state), None, weights))
        assert not of_x[0, t + 1 :].any()
        assert np.abs(of_x[0, : t + 1]).max(-1).min() > 0, "a token that does not see its past proves nothing"
        later = np.where(np.arange(T)[None, :, None] > t, elsewhere, x)
        ((changed, *_), _) = jax.device_get(run((params, later, state), None, weights)[1])
        assert_close(changed[:, : t + 1], y[:, : t + 1])


@pytest.mark.slow
def test_rows_do_not_meet(rng):
    inputs, weights = sample(rng, OTHERS, 2)
    ids, run, row = jnp.asarray(IDS), program(**OTHERS)[2], lambda leaf: np.arange(2).reshape(2, *[1] * (leaf.ndim - 1))
    other = jax.tree.map(lambda leaf: np.where(row(leaf) == 1, 2 - np.asarray(leaf), leaf), inputs[1:])
    one, two = run(inputs, ids, weights)[1], run((inputs[0], *other), ids, weights)[1]
    for left, right in zip(*(jax.tree.leaves(jax.device_get(out[0][:2])) for out in (one, two)), strict=True):
        np.testing.assert_array_equal(left[0], right[0])
        assert np.abs(left[1] - right[1]).max() > 0
    weights = jax.tree.map(lambda leaf: np.where(row(leaf) == 1, leaf, 0), weights[:2])
    gradients = run(inputs, ids, (*weights, jnp.zeros(())))[0]  # the balance is of all rows
    for leaf in jax.tree.leaves(jax.device_get(gradients[1:])):
        assert not leaf[0].any() and leaf[1].any()


def all_to(memory, inputs):
    """Inputs whose tokens all go to one memory: x[0] is 1, and the router looks at nothing else."""
    params, x, state = inputs
    kernel = lambda leaf: jnp.zeros_like(leaf).at[0, memory].set(60.0)
    return changed(params, router_kernel=kernel), x.at[..., 0].set(1.0), state


@cache
def gated_delta_net():
    """A Gated DeltaNet, and its compiled outputs and gradients to x and the state, for given parameters."""
    graphdef, params = nnx.split(build(GatedDeltaNetConfig(**SIZES)))

    @jax.jit
    def run(own, x, state, weights):
        nnx.replace_by_pure_dict(params, own)
        outputs, pull = jax.vjp(lambda x, state: nnx.merge(graphdef, params)(x, state)[:2], x, state)
        return outputs, pull(weights)

    return nnx.merge(graphdef, params).init_state(1), run


def on_its_own(inputs, weights, m):
    """What a Gated DeltaNet with the parameters and the state of memory m does: y, its state and gradients."""
    p, x, state = nnx.to_pure_dict(inputs[0]), *inputs[1:]
    split, names = lambda z: jnp.split(z, (8, 16), axis=-1), ("conv_query", "conv_key", "conv_value")
    own = {name: {"kernel": p["own"][name][m]} for name in ("key", "value", "beta", "decay")}
    own |= {name: {"kernel": part} for name, part in zip(names, split(p["conv"]["kernel"]), strict=True)}
    own |= {name: p[name] for name in ("query", "gate", "output", "norm", "A_log", "dt_bias")}
    empty, run = gated_delta_net()
    apart = lambda state: type(empty)(state.memory[:, m], *split(state.conv[:, m]))
    together = lambda state: (state[0], jnp.concatenate(state[1:], -1))
    (y, state), (of_x, of_state) = run(own, x, apart(state), (weights[0], apart(weights[1])))
    return (y, together(state)), (of_x, together(of_state))


@pytest.mark.slow
def test_routing_everything_to_one_memory_is_a_gated_delta_net(rng):
    inputs, weights = sample(rng, {})
    params, x, state = all_to(2, inputs)
    params = changed(params, own_value=lambda leaf: leaf.at[4].set(0))  # what the shared memory adds is zero
    state = state._replace(shared=jnp.zeros_like(state.shared), shared_conv=jnp.zeros_like(state.shared_conv))
    only = lambda leaf: np.where(np.arange(4).reshape(-1, *[1] * (leaf.ndim - 2)) == 2, leaf, 0)
    of_state = jax.tree.map(np.zeros_like, weights[1])
    of_state = of_state._replace(memory=only(weights[1].memory), conv=only(weights[1].conv))
    weights = (weights[0], of_state, np.zeros(()))
    (_, of_x, of_state), ((y, new, _), aux) = program()[2]((params, x, state), None, weights)
    outputs, gradients = on_its_own((params, x, state), weights, 2)
    assert_close((y, (new.memory[:, 2], new.conv[:, 2])), outputs)
    assert_close((of_x, (of_state.memory[:, 2], of_state.conv[:, 2])), gradients, gradient=True)
    assert aux["metric/router_share_2"] == 1


@pytest.mark.slow
def test_one_memory_is_a_gated_delta_net(rng):
    fields = {"memories": 1, "topk": 1, "shared": False}
    inputs, weights = sample(rng, fields)
    _, graphdef, _ = program(**fields)
    y, state, _ = jax.jit(lambda params, x, state: nnx.merge(graphdef, params)(x, state))(*inputs)
    assert_close((y, (state.memory[:, 0], state.conv[:, 0])), on_its_own(inputs, weights, 0)[0])


def top(params, x):
    """The two memories that tokens x [..., D] go to."""
    kernel = np.asarray(nnx.to_pure_dict(params)["router"]["kernel"])
    return np.argsort(-(np.asarray(x) @ kernel), axis=-1)[..., :2]


def assert_untouched(old, new, chosen):
    """Bit for bit the same in all memories but those chosen by row [B, k], and changed in these."""
    for row, mine in enumerate(chosen):
        for m in range(4):
            same = [
                np.array_equal(getattr(old, part)[row, m], getattr(new, part)[row, m]) for part in ("memory", "conv")
            ]
            assert same == [m not in mine] * 2


@cache
def step(**fields):
    """A compiled call on one token of one row, and its parameters."""
    graphdef, params = nnx.split(build(MixtureOfMemoriesConfig(**(SIZES | fields))))
    run = jax.jit(lambda params, x, state: nnx.merge(graphdef, params)(x, state)[:2])
    state = nnx.merge(graphdef, params).init_state(1)
    return run.lower(params, jnp.zeros((1, 1, D)), state).compile(), params


@pytest.mark.parametrize("fields", [{}, pytest.param({"rule": "gla"}, marks=pytest.mark.slow)], ids=str)
def test_decoding_equals_the_loop_and_touches_no_other_memory(fields, rng):
    _, x, start = sample(rng, fields)[0]
    run, params = step(**fields)
    x, state, ys = np.asarray(x), start, []
    for t in range(12):
        y, new = jax.device_get(run(params, x[:, t : t + 1], state))
        assert_untouched(jax.device_get(state), new, top(params, x[:, t]))
        ys.append(y)
        state = new
    expected = loop(config_of(**fields), plain((params, x[:, :12], start)), np.ones((1, 12), int))[:2]
    assert_close((np.concatenate(ys, 1), state), jax.tree.map(np.real, expected))


@pytest.mark.slow
def test_one_token_in_a_stream_touches_no_other_memory(rng):
    inputs, weights = sample(rng, OTHERS, 2)
    ids = jnp.zeros((2, T), jnp.int32).at[:, 5].set(3)
    (_, new, _), _ = program(**OTHERS)[2](inputs, ids, weights)[1]
    assert_untouched(jax.device_get(inputs[2]), jax.device_get(new), top(inputs[0], np.asarray(inputs[1])[:, 5]))
    (_, new, _), _ = program(**OTHERS)[2](inputs, jnp.zeros_like(ids), weights)[1]
    jax.tree.map(np.testing.assert_array_equal, inputs[2], new)


def test_a_step_costs_the_same_with_more_memories():
    """One token's floating-point operations, for 4 and 16 memories: the router's product and softmax grow, no more."""
    few, many = (step(memories=memories)[0].cost_analysis()["flops"] for memories in (4, 16))
    assert few > 2000 and 0 < many - few <= 12 * (2 * D + 5)


@cache
def aux_only(**fields):
    """The compiled auxiliary outputs, and the gradient of the loss to the parameters."""
    params, graphdef, _ = program(**fields)
    run = lambda params, x, ids: nnx.merge(graphdef, params)(x, segment_ids=ids).aux
    loss = lambda *inputs: (lambda aux: (aux["loss/router_balance"], aux))(run(*inputs))
    return params, jax.jit(jax.grad(loss, has_aux=True))


def test_auxiliary_loss_and_metrics(rng):
    params, run = aux_only(balance_weight=0.5)
    x, everywhere = draw(rng, np.zeros((2, T, D))), jnp.ones((2, T), jnp.int32)
    share = lambda aux: np.asarray([aux[f"metric/router_share_{m}"] for m in range(4)])
    balanced = run(changed(params, router_kernel=jnp.zeros_like), x, everywhere)[1]
    np.testing.assert_allclose(balanced["loss/router_balance"], 0.5 * 2, rtol=1e-6)
    np.testing.assert_allclose(balanced["metric/router_entropy"], np.log(4), rtol=1e-6)
    collapsed = run(*all_to(1, (params, x, None))[:2], everywhere)[1]
    np.testing.assert_allclose(collapsed["loss/router_balance"], 0.5 * 4, rtol=1e-6)
    np.testing.assert_allclose(collapsed["metric/router_entropy"], 0, atol=1e-6)
    assert share(collapsed)[1] == 1 and collapsed["metric/router_unused"] == 0.5  # two memories share the second places
    gradient, aux = run(params, x, everywhere)
    np.testing.assert_allclose(share(aux).sum(), 2, rtol=1e-6)
    assert aux["metric/router_unused"] == 0 and 0 < aux["metric/router_entropy"] < np.log(4)
    assert np.abs(nnx.to_pure_dict(gradient)["router"]["kernel"]).max() > 1e-3
    np.testing.assert_allclose(share(aux), (top(params, x)[..., None] == np.arange(4)).any(2).mean((0, 1)), rtol=1e-6)


def test_the_order_of_memories_outlives_probabilities_that_underflow(rng):
    params, run = aux_only(balance_weight=0.5)
    logits = lambda leaf: jnp.zeros_like(leaf).at[0].set(jnp.asarray([300.0, 0.0, 50.0, 150.0]))  # exp(-150) is 0
    x = draw(rng, np.zeros((2, T, D))).at[..., 0].set(1.0)
    aux = run(changed(params, router_kernel=logits), x, jnp.ones((2, T), jnp.int32))[1]
    assert [float(aux[f"metric/router_share_{m}"]) for m in range(4)] == [1, 0, 0, 1]


def test_padding_is_no_routed_token(rng):
    params, run = aux_only(balance_weight=0.5)
    x, ids = draw(rng, np.zeros((2, T, D))), jnp.asarray(IDS)
    other = jnp.where(ids[..., None] > 0, x, 9.0)
    aux, again = run(params, x, ids)[1], run(params, other, ids)[1]
    assert_close(again, aux)
    assert abs(aux["metric/router_share_0"] - run(params, other, ids * 0 + 1)[1]["metric/router_share_0"]) > 0.01
    assert all(np.isfinite(leaf) for leaf in run(params, x, ids * 0)[1].values()), "a batch of padding alone"


def test_one_tap_of_convolution_has_no_past():
    mixer, x = build(MixtureOfMemoriesConfig(**SIZES, conv_width=1)), jnp.zeros((2, T, D))
    out = jax.eval_shape(lambda mixer, x: mixer(x, segment_ids=jnp.asarray(IDS)), mixer, x)
    assert out.y.shape == x.shape and out.state.conv.shape == (2, 4, 0, 22)


@pytest.mark.parametrize(
    "fields", [{"topk": 5}, {"topk": 0}, {"memories": 1}, {"conv_width": 0}, {"conv_width": 17}], ids=str
)
def test_impossible_sizes_are_named(fields):
    name = "topk" if "memories" in fields else next(iter(fields))
    with pytest.raises(ValueError, match=f"MixtureOfMemories: {name}="):
        MixtureOfMemoriesConfig(**fields).make(D, rngs=nnx.Rngs(0))
