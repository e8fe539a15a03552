import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memjax.mixers import RetNetConfig
from tests.tolerances import assert_close

pytestmark = pytest.mark.slow  # another of its kind stands for it in the second row of versions


def test_equals_the_papers_parallel_form(rng):
    """(Q K^T * D) V with D_nm = gamma^(n-m), queries and keys turned by their positions (equations 5 and 8)."""
    mixer = RetNetConfig(heads=2, head_dim=4, expand_v=1.0).make(16, rngs=nnx.Rngs(0))
    x = rng.normal(size=(20, 16))
    times = lambda z, matrix: z @ np.asarray(matrix.kernel[...], np.float64)
    heads = lambda z: z.reshape(20, 2, 4)
    angle = np.exp(1j * np.arange(20)[:, None] * 10_000.0 ** (-np.arange(2) / 2))[:, None]
    turn = lambda z: (z[..., :2] + 1j * z[..., 2:]) * angle
    q, k = (turn(heads(times(x, project))) for project in (mixer.query, mixer.key))
    v = heads(times(x, mixer.value))
    scores = np.einsum("ihk,jhk->hij", q, k.conj()).real * 4**-0.5
    gamma, distance = 1 - 2.0 ** (-5 - np.arange(2)), np.arange(20)[:, None] - np.arange(20)
    decay = np.where(distance >= 0, gamma[:, None, None] ** np.maximum(distance, 0), 0)
    o = np.einsum("hij,jhv->ihv", scores * decay, v)
    o /= np.sqrt((o**2).mean(-1, keepdims=True) + 1e-6)
    gate = times(x, mixer.gate)
    expected = times(o.reshape(20, 8) * gate / (1 + np.exp(-gate)), mixer.output)
    assert_close(jax.jit(mixer)(jnp.asarray(x[None], jnp.float32)).y[0], expected)


def test_the_state_counts_positions_from_the_documents_start():
    mixer = RetNetConfig().make(16, rngs=nnx.Rngs(0))
    ids = jnp.asarray([[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 0, 0]], jnp.int32)
    state = mixer.init_state(2)._replace(count=jnp.asarray([5, 7], jnp.int32))
    count = jax.jit(lambda x, state, ids: mixer(x, state, segment_ids=ids).state.count)(
        jnp.ones((2, 6, 16)), state, ids
    )
    np.testing.assert_array_equal(count, [2, 11])


def test_an_odd_head_cannot_be_rotated():
    with pytest.raises(ValueError, match="even head_dim"):
        RetNetConfig(head_dim=3).make(16, rngs=nnx.Rngs(0))
