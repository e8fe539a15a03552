"""ProductKeyMemory, MemoryPlus and Peer against plain float64 forms of their equations; tables that are handed in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memjax.layers import READS
from memjax.mixers import MemoryPlusConfig, PeerConfig, ProductKeyMemoryConfig
from tests.mixers.memory_layers import gelu, parameters, product_keys, silu, softmax
from tests.tolerances import assert_close

WIDTH = 8
SMALL = {"heads": 2, "topk": 5, "subkeys": 6, "key_dim": 4}
CONFIGS = [
    ProductKeyMemoryConfig(**SMALL),
    ProductKeyMemoryConfig(query_norm=False, **SMALL),
    MemoryPlusConfig(value_dim=6, **SMALL),
    MemoryPlusConfig(qk_norm=False, gate=False, **SMALL),
    PeerConfig(**SMALL),
]


def expected(layer, p, x):
    """y of one token."""
    config, y = layer.config, 0
    for _, rows, scores in product_keys(p, x, 2, 5):
        weights = softmax(scores)
        if isinstance(config, PeerConfig):
            y = y + (weights * gelu(p["table/down"][rows] @ x)) @ p["table/up"][rows]
        else:
            y = y + weights @ p["table/values"][rows]
    if isinstance(config, MemoryPlusConfig) and config.gate:
        y = (y * silu(x @ p["gate/kernel"])) @ p["output/kernel"]
    return y


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: type(c).__name__)
def test_equals_the_equations_token_by_token(config, getkey):
    layer = config.make(WIDTH, rngs=nnx.Rngs(0))
    x = jax.random.normal(getkey(), (2, 3, WIDTH))
    p = parameters(layer)
    wanted = np.stack([[expected(layer, p, token) for token in row] for row in np.asarray(x, np.float64)])
    assert_close(jax.jit(lambda layer, x: layer(x).y)(layer, x), wanted)


def test_a_table_that_is_handed_in_replaces_the_layers_own(getkey):
    """A bare array, a dictionary, or another layer's table; a layer that shares one has none of its own."""
    config = ProductKeyMemoryConfig(usage=False, **SMALL)
    one, two = config.make(WIDTH, rngs=nnx.Rngs(0)), config.make(WIDTH, rngs=nnx.Rngs(1))
    x = jax.random.normal(getkey(), (1, 3, WIDTH))
    whole = one(x, table=two.table).y
    values = two.table.values[...]
    np.testing.assert_array_equal(one(x, table=values).y, whole)
    np.testing.assert_array_equal(one(x, table={"values": values}).y, whole)
    assert np.abs(np.asarray(whole - one(x).y)).max() > 1e-3
    sharing = ProductKeyMemoryConfig(share="facts", usage=False, **SMALL).make(WIDTH, rngs=nnx.Rngs(0))
    assert sharing.table is None
    assert sharing(x, table=values).y.shape == x.shape
    with pytest.raises(ValueError, match="pass table="):
        sharing(x)
    peer = PeerConfig(usage=False, **SMALL).make(WIDTH, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="reads 'down'"):
        peer(x, table=values)


@pytest.mark.parametrize("config", [CONFIGS[2], CONFIGS[4]], ids=lambda c: type(c).__name__)
def test_taps_and_reads_make_the_gradient_of_the_table(config, getkey):
    """With taps the table gets no gradient; scores times vectors, added up row by row, are what it would have been."""
    layer = config.make(WIDTH, rngs=nnx.Rngs(0))
    x, weights = jax.random.normal(getkey(), (2, 3, WIDTH)), jax.random.normal(getkey(), (2, 3, WIDTH))
    taps = {name: jnp.zeros((2, 3, *shape)) for name, shape in layer.tap_shapes().items()}

    @jax.jit
    def both(layer, taps):
        def tapped(layer, taps):
            out = layer(x, taps=taps)
            return (out.y * weights).sum(), out.aux[READS]

        plain = jax.grad(lambda layer: (layer(x).y * weights).sum())(layer)
        return plain, jax.grad(tapped, (0, 1), has_aux=True)(layer, taps)

    plain, ((constant, cotangents), reads) = both(layer, taps)
    for name in layer.table.names:
        read, tap = reads[name], cotangents[name]
        scores = tap if read.scores is None else read.scores
        vectors = tap if read.vectors is None else read.vectors
        total = np.zeros(getattr(layer.table, name).shape)
        np.add.at(total, np.asarray(read.indices), np.asarray(scores)[..., None] * np.asarray(vectors)[..., None, :])
        assert_close(total, getattr(plain.table, name)[...], dtype="float32", gradient=True)
        assert not np.any(getattr(constant.table, name)[...])
    assert_close(constant.lookup.keys[...], plain.lookup.keys[...], gradient=True)


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (ProductKeyMemoryConfig(key_dim=3), "key_dim=3"),
        (ProductKeyMemoryConfig(subkeys=2, topk=5), "topk=5"),
        (MemoryPlusConfig(gate=False, value_dim=4), "value_dim=4"),
    ],
)
def test_impossible_sizes_are_refused(config, match):
    with pytest.raises(ValueError, match=match):
        config.make(WIDTH, rngs=nnx.Rngs(0))
