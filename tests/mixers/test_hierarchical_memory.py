"""HierarchicalMemory against a plain float64 walk down the tree, and what a context of several tokens means."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memjax.mixers import HierarchicalMemoryConfig
from tests.mixers.memory_layers import gelu, parameters, rms, softmax
from tests.tolerances import assert_close

WIDTH = 8
CONFIG = HierarchicalMemoryConfig(branching=3, levels=2, hidden=4, key_dim=5)
run = jax.jit(lambda layer, x, state=None, ids=None: layer(x, state, segment_ids=ids))


def expected(p, x, chooser):
    """y of a token x whose context began with the token `chooser`."""
    query = rms(chooser @ p["query/kernel"]) * p["query_norm/scale"]
    node, y = (), 0  # a node is the tuple of children taken
    for level in range(2):
        inner = node[0] + 1 if level else 0  # nodes with children: the root, then its three children
        chances = softmax(p["keys"][inner] @ query)
        node = (*node, int(np.argmax(chances)))
        block = node[0] if level == 0 else 3 + 3 * node[0] + node[1]
        units = slice(4 * block, 4 * block + 4)
        y = y + chances.max() * (gelu(p["table/down"][units] @ x) @ p["table/up"][units])
    return y


@pytest.mark.parametrize("context", [1, 3])
def test_equals_a_walk_down_the_tree(context, getkey):
    layer = dataclasses.replace(CONFIG, context=context).make(WIDTH, rngs=nnx.Rngs(0))
    x = jax.random.normal(getkey(), (2, 7, WIDTH))
    p = parameters(layer)
    rows = np.asarray(x, np.float64)
    wanted = [[expected(p, row[t], row[t // context * context]) for t in range(7)] for row in rows]
    assert_close(run(layer, x).y, np.asarray(wanted))


def test_the_choice_of_a_context_goes_on_over_calls_and_begins_anew_with_a_document(getkey):
    layer = dataclasses.replace(CONFIG, context=3).make(WIDTH, rngs=nnx.Rngs(0))
    x = jax.random.normal(getkey(), (1, 8, WIDTH))
    whole = run(layer, x)
    for cut in (1, 2, 3, 5):
        first = run(layer, x[:, :cut])
        second = run(layer, x[:, cut:], first.state)
        assert_close((jnp.concatenate([first.y, second.y], 1), second.state), (whole.y, whole.state))
    ids = jnp.asarray([[1, 1, 1, 1, 0, 2, 2, 2]], jnp.int32)
    packed = run(layer, x, None, ids)
    assert_close(packed.y[:, :4], whole.y[:, :4])
    alone = run(layer, x[:, 5:])
    assert_close((packed.y[:, 5:], packed.state), (alone.y, alone.state))


def test_a_context_of_one_token_has_no_state():
    assert CONFIG.make(WIDTH, rngs=nnx.Rngs(0)).init_state(2) == ()


def test_gradient_reaches_the_tree(getkey):
    layer = CONFIG.make(WIDTH, rngs=nnx.Rngs(0))
    x = jax.random.normal(getkey(), (2, 5, WIDTH))
    gradient = jax.jit(jax.grad(lambda layer: (layer(x).y ** 2).sum()))(layer)
    assert np.abs(np.asarray(gradient.keys[...])).max() > 0
    assert np.abs(np.asarray(gradient.query.kernel[...])).max() > 0


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="branching"):
        HierarchicalMemoryConfig(branching=1).make(WIDTH, rngs=nnx.Rngs(0))
