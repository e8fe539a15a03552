import dataclasses

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from memjax.layers import GatedMLPConfig
from memjax.mixers import AttentionConfig, GatedDeltaNetConfig
from memjax.models import LM, BlockConfig, LMConfig
from tests.tolerances import assert_close

HYBRID = LMConfig(
    vocab_size=20,
    width=16,
    blocks=(
        BlockConfig(GatedDeltaNetConfig(heads=2), GatedMLPConfig(hidden=16)),
        BlockConfig(AttentionConfig(heads=2, context=8), None),
    ),
    repeats=2,
)
call = jax.jit(lambda lm, tokens, state=None, ids=None: lm(tokens, state, segment_ids=ids))


@pytest.fixture(scope="module")
def lm():
    return LM(HYBRID, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def tokens():
    return jax.random.randint(jax.random.key(0), (2, 20), 0, 20)


def test_scanned_stack_equals_the_layers_one_after_another(lm, tokens):
    @jax.jit
    def unrolled(lm, tokens):
        x = lm.embed.table[...][tokens]
        for repeat in range(2):
            for block in lm.blocks:
                one = jax.tree.map(lambda leaf, repeat=repeat: leaf[repeat], block)
                x = x + one.mixer(one.mixer_norm(x)).y
                if one.mlp is not None:
                    x = x + one.mlp(one.mlp_norm(x)).y
        return lm.final_norm(x) @ lm.embed.table[...].T

    assert_close(call(lm, tokens).logits, unrolled(lm, tokens))


def test_state_carries_a_sequence_over_calls(lm, tokens):
    whole = call(lm, tokens)
    first = call(lm, tokens[:, :13])
    second = call(lm, tokens[:, 13:], first.state)
    assert_close((jnp.concatenate([first.logits, second.logits], 1), second.state), (whole.logits, whole.state))


@pytest.mark.slow
def test_packed_documents_equal_separate_ones(lm, tokens):
    ids = jnp.asarray([[1] * 7 + [2] * 13] * 2, jnp.int32)
    packed = call(lm, tokens, None, ids).logits
    alone = jnp.concatenate([call(lm, tokens[:, :7]).logits, call(lm, tokens[:, 7:]).logits], axis=1)
    assert_close(packed, alone)


@pytest.mark.slow
def test_remat_changes_memory_and_not_gradients(tokens, lm):
    gradient = jax.jit(jax.grad(lambda lm: (lm(tokens).logits ** 2).mean()))
    expected = gradient(lm)
    for remat in ("dots", "full"):
        other = LM(dataclasses.replace(HYBRID, remat=remat), rngs=nnx.Rngs(0))
        assert_close(jax.tree.leaves(gradient(other)), jax.tree.leaves(expected), gradient=True)


def test_state_bytes_and_flops_are_counted_not_guessed(lm):
    state = lm.init_state(3)
    assert lm.state_bytes(3) == sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    matrices = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(lm.blocks)) if leaf.ndim == 3)
    convs = sum(
        leaf.size for path, leaf in jax.tree_util.tree_leaves_with_path(nnx.state(lm.blocks)) if "conv" in str(path)
    )
    gdn, attention = lm.blocks[0].mixer, lm.blocks[1].mixer
    memory = 6 * gdn.value_heads * gdn.head_dim * gdn.value_dim
    scores = 4 * attention.heads * attention.head_dim * 8  # a window of 8 in rows of 64
    assert convs < matrices
    assert lm.flops_per_token(64) == 2 * (matrices + 20 * 16) + 2 * (memory + scores)


@pytest.mark.slow
def test_untied_head_and_bfloat16(tokens):
    lm = LM(dataclasses.replace(HYBRID, tie_embeddings=False), rngs=nnx.Rngs(0))
    assert lm.head.kernel[...].shape == (16, 20)
    hidden, state, _ = lm.hidden(tokens, dtype=jnp.bfloat16)
    assert hidden.dtype == jnp.bfloat16 and lm.logits(hidden).dtype == jnp.float32
    assert all(leaf.dtype in (jnp.float32, jnp.int32) for leaf in jax.tree.leaves(state))


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        LM(dataclasses.replace(HYBRID, repeats=0), rngs=nnx.Rngs(0))
