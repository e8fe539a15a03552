import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memjax.mixers import AttentionConfig
from tests.tolerances import assert_close


def by_hand(mixer, x, context):
    """Softmax attention of one document, a loop over heads and tokens in float64; no rotary embedding."""
    matrix = lambda layer: np.asarray(layer.kernel[...], np.float64)
    split = lambda z, n: z.reshape(*z.shape[:-1], n, -1)
    q = split(x @ matrix(mixer.query), mixer.heads)
    k, v = (split(x @ matrix(layer), mixer.kv_heads) for layer in (mixer.key, mixer.value))
    out = np.zeros(q.shape)
    for b, t, h in np.ndindex(q.shape[:3]):
        kv, first = h // (mixer.heads // mixer.kv_heads), max(0, t - context + 1)
        scores = k[b, first : t + 1, kv] @ q[b, t, h] / np.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max())
        out[b, t, h] = weights / weights.sum() @ v[b, first : t + 1, kv]
    return out.reshape(*x.shape[:2], -1) @ matrix(mixer.output)


@pytest.mark.parametrize("context", [3, 64])
def test_equals_softmax_attention_within_the_window(context, rng):
    config = AttentionConfig(heads=4, kv_heads=2, context=context, rotary_base=None)
    mixer = config.make(16, rngs=nnx.Rngs(0))
    x = rng.normal(size=(2, 11, 16))
    y = jax.jit(lambda x: mixer(x).y)(jnp.asarray(x, jnp.float32))
    assert_close(y, by_hand(mixer, x, context))


@pytest.mark.parametrize("context", [1, 3, 5])
def test_a_ring_that_wraps_equals_one_call(context):
    mixer = AttentionConfig(heads=2, context=context, query_key_norm=True).make(8, rngs=nnx.Rngs(0))
    call = jax.jit(lambda mixer, x, state: mixer(x, state))
    x = jax.random.normal(jax.random.key(0), (2, 14, 8))
    whole, last, _ = call(mixer, x, None)
    state, pieces = None, []
    for start, stop in ((0, 4), (4, 5), (5, 12), (12, 14)):
        y, state, _ = call(mixer, x[:, start:stop], state)
        pieces.append(y)
    assert_close((jnp.concatenate(pieces, 1), state), (whole, last))


def test_dead_slots_are_zero_after_a_new_document():
    mixer = AttentionConfig(heads=2, context=8).make(8, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (1, 10, 8))
    ids = jnp.asarray([[1] * 7 + [2] * 3], jnp.int32)
    state = jax.jit(lambda x, ids: mixer(x, segment_ids=ids).state)(x, ids)
    assert int(state.count[0]) == 3
    assert np.all(np.asarray(state.key)[:, 3:] == 0) and np.any(np.asarray(state.key)[:, :3] != 0)


def test_impossible_configs_are_refused():
    for config, word in (
        (AttentionConfig(heads=3, kv_heads=2), "kv_heads"),
        (AttentionConfig(heads=2, head_dim=3), "even"),
        (AttentionConfig(context=0), "context"),
    ):
        with pytest.raises(ValueError, match=word):
            config.make(8, rngs=nnx.Rngs(0))
