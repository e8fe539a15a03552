"""Memory layers in the backbone: tables at the root, beside the MLP, added later, read without copying."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memjax.layers import READS, GatedMLPConfig
from memjax.mixers import LRUConfig, MemoryPlusConfig, PeerConfig, ProductKeyMemoryConfig
from memjax.models import LM, BlockConfig, LMConfig, generate
from tests.tolerances import assert_close

SMALL = {"heads": 2, "topk": 3, "subkeys": 4, "key_dim": 4}
MIXER, MLP = LRUConfig(state_size=4), GatedMLPConfig(hidden=8)
SHARED = MemoryPlusConfig(share="facts", **SMALL)
CONFIG = LMConfig(
    vocab_size=20,
    width=8,
    blocks=(
        BlockConfig(MIXER, SHARED),
        BlockConfig(MIXER, MLP, ProductKeyMemoryConfig(**SMALL), memory_delay=1),
        BlockConfig(MIXER, SHARED),
    ),
    repeats=2,
)
call = jax.jit(lambda lm, tokens, state=None: lm(tokens, state))


@pytest.fixture(scope="module")
def lm():
    return LM(CONFIG, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def tokens():
    return jax.random.randint(jax.random.key(0), (2, 6), 0, 20)


def unrolled(lm, tokens):
    """The backbone of CONFIG layer by layer, the memory of the second block added after the third."""
    x, table = lm.embed.table[...][tokens], lm.tables["facts"]
    for layer in range(6):
        block = lm.layer(layer)
        x = x + block.mixer(block.mixer_norm(x)).y
        normed = block.mlp_norm(x)
        if layer % 3 == 1:
            x, later = x + block.mlp(normed).y, block.memory(normed).y
        else:
            x = x + block.mlp(normed, table=table).y
        if layer % 3 == 2:
            x = x + later
    return lm.final_norm(x) @ lm.embed.table[...].T


def test_stack_equals_the_layers_one_after_another(lm, tokens):
    assert_close(call(lm, tokens).logits, jax.jit(unrolled)(lm, tokens))


@pytest.mark.slow
def test_a_look_inside_meets_the_same_stream(lm, tokens):
    """`before` with all layers behind it is the stream before the last norm."""
    inside = jax.jit(lambda lm, tokens: lm.final_norm(lm.before(6, lm.embed.table[...][tokens])))
    assert_close(inside(lm, tokens) @ lm.embed.table[...].T, call(lm, tokens).logits)


def test_a_shared_table_exists_once(lm):
    arrays = [leaf.shape for leaf in jax.tree.leaves(nnx.state(lm)) if leaf.shape[-2:] == (16, 8)]
    assert sorted(arrays) == [(2, 16, 8), (16, 8)]  # that of the layers beside the MLP, stacked, and the shared one


def test_constant_tables_are_read_where_they_lie(lm, tokens):
    """Same numbers; and no array of a layer's table is cut out of the stack."""
    constant = jax.jit(lambda lm, tokens: lm.hidden(tokens, taps={}).hidden)
    assert_close(constant(lm, tokens), jax.jit(lambda lm, tokens: lm.hidden(tokens).hidden)(lm, tokens))
    text = constant.lower(lm, tokens).as_text()
    assert "tensor<1x16x8xf32>" not in text


@pytest.mark.slow
def test_generating_reads_tables_where_they_lie_and_continues_the_sequence(lm, tokens):
    out = np.asarray(generate(lm, tokens, 3))
    for _ in range(3):
        following = jnp.argmax(call(lm, tokens).logits[:, -1], -1)[:, None]
        tokens = jnp.concatenate([tokens, following], axis=1)
    np.testing.assert_array_equal(out, tokens[:, -3:])


def test_taps_report_every_read_of_every_layer(lm, tokens):
    taps = lm.taps(*tokens.shape)
    assert {name: {array: tap.shape for array, tap in arrays.items()} for name, arrays in taps.items()} == {
        "0/mlp": {"values": (2, 2, 6, 8)},
        "1/memory": {"values": (2, 2, 6, 8)},
        "2/mlp": {"values": (2, 2, 6, 8)},
    }
    aux = jax.jit(lambda lm, tokens: lm.hidden(tokens, taps=taps).aux)(lm, tokens)
    assert set(aux[READS]) == set(taps)
    assert aux[READS]["1/memory"]["values"].indices.shape == (2, 2, 6, 2 * 3)
    assert READS not in call(lm, tokens).aux


def test_usage_is_reported_by_layer_and_losses_are_summed(lm, tokens):
    names = {name.split("/")[1] for name in call(lm, tokens).aux}
    assert names == {f"layer{number}" for number in range(6)}


def test_layers_that_share_must_want_the_same_table():
    blocks = (BlockConfig(MIXER, SHARED), BlockConfig(MIXER, dataclasses.replace(SHARED, subkeys=5)))
    with pytest.raises(ValueError, match="share='facts'"):
        LM(dataclasses.replace(CONFIG, blocks=blocks), rngs=nnx.Rngs(0))
    blocks = (BlockConfig(MIXER, SHARED), BlockConfig(MIXER, PeerConfig(share="facts", **SMALL)))
    with pytest.raises(ValueError, match="share='facts'"):
        LM(dataclasses.replace(CONFIG, blocks=blocks), rngs=nnx.Rngs(0))


def test_a_delay_must_end_inside_the_pattern():
    blocks = (BlockConfig(MIXER, MLP, SHARED, memory_delay=1),)
    with pytest.raises(ValueError, match="memory_delay=1"):
        LM(dataclasses.replace(CONFIG, blocks=blocks), rngs=nnx.Rngs(0))


def test_flops_count_scores_and_sums_but_no_table(lm):
    without = LM(
        dataclasses.replace(CONFIG, blocks=tuple(BlockConfig(MIXER, None) for _ in range(3))), rngs=nnx.Rngs(0)
    )
    reads = 2 * 3
    scores, sums = 2 * (2 * 2 * 4 * 2), 2 * reads * 8
    query, gates, mlp = 8 * 8, 2 * 8 * 8, 3 * 8 * 8
    layer = {"shared": 2 * (query + gates) + scores + sums, "beside": 2 * (mlp + query) + scores + sums}
    added = lm.flops_per_token(6) - without.flops_per_token(6)
    assert added == 2 * (2 * layer["shared"] + layer["beside"])
