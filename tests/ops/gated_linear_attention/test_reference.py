import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.ops import gated_linear_attention
from tests.ops.matrix_memory import Case, draw
from tests.ops.packing import packing
from tests.tolerances import assert_close


def by_hand(inputs, segments):
    """The two lines of the definition, as loops over rows, heads and tokens."""
    q, k, v, g, state = (inputs[n] for n in ("q", "k", "v", "log_decay", "initial_state"))
    o, final, group = np.zeros(v.shape), state.copy(), v.shape[2] // q.shape[2]
    for b, h in np.ndindex(v.shape[0], v.shape[2]):
        s, current = state[b, h].copy(), None
        for t in range(v.shape[1]):
            document = 1 if segments is None else segments[b, t]
            if document == 0:
                continue
            if current not in (None, document):
                s = np.zeros_like(s)
            current = document
            decay = np.ones(1) if g is None else np.atleast_1d(np.exp(g[b, t, h]))
            s = decay[:, None] * s + np.outer(k[b, t, h // group], v[b, t, h])
            o[b, t, h] = s.T @ q[b, t, h // group] * q.shape[-1] ** -0.5
        final[b, h] = s
    return o, final


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("gate", ["none", "scalar", "channel"])
def test_reference_is_the_definition(gate, packed, rng):
    case = Case(50, batch=2, heads=2, groups=4, keys=5, values=7, gate=gate, packed=packed)
    inputs, segments = draw(gated_linear_attention, case, rng), packing(case, rng)
    expected = by_hand(inputs, segments)
    with jax.enable_x64(True):
        args = [None if inputs[n] is None else jnp.asarray(inputs[n]) for n in ("q", "k", "v", "log_decay")]
        o, final = gated_linear_attention(
            *args,
            initial_state=jnp.asarray(inputs["initial_state"]),
            segment_ids=None if segments is None else jnp.asarray(segments),
            implementation="reference",
        )
        live = 1.0 if segments is None else (segments > 0)[..., None, None]
        assert_close((np.asarray(o) * live, np.asarray(final)), expected)


def test_wrong_shapes_and_names_are_refused():
    x = jnp.zeros((1, 4, 2, 8))
    with pytest.raises(ValueError, match="3 value heads are not a multiple of 2"):
        gated_linear_attention(x, x, jnp.zeros((1, 4, 3, 8)))
    with pytest.raises(NotImplementedError, match="pallas_gpu"):
        gated_linear_attention(x, x, x, implementation="pallas_gpu")
    with pytest.raises(ValueError, match="empty"):
        gated_linear_attention(x[:, :0], x[:, :0], x[:, :0])
    with pytest.raises(ValueError, match="B = 0"):
        gated_linear_attention(x[:0], x[:0], x[:0])
