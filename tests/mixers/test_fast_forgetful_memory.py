import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memjax.mixers import FastForgetfulMemoryConfig
from tests.tolerances import assert_close

pytestmark = pytest.mark.slow  # another of its kind stands for it in the second row of versions

call = jax.jit(lambda mixer, x, state=None, segment_ids=None: mixer(x, state, segment_ids=segment_ids))
SMALL = FastForgetfulMemoryConfig(traces=3, contexts=2, longest=50)


def sigmoid(u):
    return 1 / (1 + np.exp(-u))


def paper(mixer, x):
    """A step a token in complex128, S as a matrix."""
    wide = lambda a: np.asarray(a[...], np.float64)
    decay = np.exp(-np.exp(wide(mixer.log_rate))[:, None] + 1j * wide(mixer.frequency)[None])
    s, out = np.zeros((x.shape[0], *decay.shape), np.complex128), []
    for token in np.moveaxis(np.asarray(x, np.float64), 1, 0):
        u = token @ wide(mixer.input.kernel) * sigmoid(token @ wide(mixer.input_gate.kernel))
        s = s * decay + u[:, :, None]
        z = np.concatenate([s.real.reshape(len(s), -1), s.imag.reshape(len(s), -1)], 1) @ wide(mixer.mix.kernel)
        z = (z - z.mean(1, keepdims=True)) / np.sqrt(z.var(1, keepdims=True) + 1e-5)
        o = sigmoid(token @ wide(mixer.output_gate.kernel))
        out.append(z * o + token @ wide(mixer.skip.kernel) * (1 - o))
    return np.stack(out, 1), s.real, s.imag


def test_equals_the_papers_recurrence():
    mixer = SMALL.make(8, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 60, 8))
    y, state, _ = call(mixer, x)
    assert_close((y, state.real, state.imag), paper(mixer, x))


def test_several_documents_in_one_row_each_begin_anew():
    """The published scan forgets all but the last reset of a row."""
    mixer = SMALL.make(8, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (1, 16, 8))
    ids = jnp.asarray([[1] * 5 + [2] * 4 + [3] * 7], jnp.int32)
    packed = call(mixer, x, None, ids)
    alone = np.concatenate([paper(mixer, x[:, a:b])[0] for a, b in ((0, 5), (5, 9), (9, 16))], axis=1)
    assert_close(packed.y, alone)


def test_rates_and_frequencies_begin_where_the_paper_begins():
    mixer = FastForgetfulMemoryConfig().make(8, rngs=nnx.Rngs(0))
    rate = np.exp(mixer.log_rate[...])
    assert rate.shape == (32,) and mixer.init_state(2).real.shape == (2, 32, 4)
    np.testing.assert_allclose(np.exp(-1024 * rate[-1]), 0.01, rtol=1e-4)  # forgotten after the longest period
    np.testing.assert_allclose(np.diff(rate), (rate[-1] - rate[0]) / 31, rtol=1e-3)
    np.testing.assert_allclose(2 * np.pi / mixer.frequency[...], [1, 342, 683, 1024], rtol=1e-5)


def test_impossible_sizes_are_refused():
    for fields, name in (({"traces": 0}, "traces=0"), ({"contexts": -1}, "contexts=-1"), ({"forgotten": 1.0}, "=1.0")):
        with pytest.raises(ValueError, match=name):
            FastForgetfulMemoryConfig(**fields).make(8, rngs=nnx.Rngs(0))
