import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.ops import gated_delta_rule
from tests.ops.matrix_memory import Case, draw
from tests.ops.packing import packing
from tests.tolerances import assert_close


def by_hand(inputs, segments):
    """The four lines of the definition, as loops over rows, heads and tokens."""
    q, k, v, g, beta, state = (inputs[n] for n in ("q", "k", "v", "log_decay", "beta", "initial_state"))
    o, final = np.zeros(v.shape), state.copy()
    group = v.shape[2] // q.shape[2]
    for b, h in np.ndindex(v.shape[0], v.shape[2]):
        s, current = state[b, h].copy(), None
        for t in range(v.shape[1]):
            if segments is not None and segments[b, t] == 0:
                continue
            if segments is not None and current is not None and segments[b, t] != current:
                s = np.zeros_like(s)
            current = None if segments is None else segments[b, t]
            key, query = k[b, t, h // group], q[b, t, h // group] * q.shape[-1] ** -0.5
            decay = 1.0 if g is None else np.exp(g[b, t, h])
            s = np.asarray(decay)[..., None] * s if g is not None and g.ndim == 4 else decay * s
            s = s + np.outer(key, beta[b, t, h] * (v[b, t, h] - s.T @ key))
            o[b, t, h] = s.T @ query
        final[b, h] = s
    return o, final


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("gate", ["none", "scalar", "channel"])
def test_reference_is_the_definition(gate, packed, rng):
    case = Case(50, batch=2, heads=2, groups=4, keys=5, values=7, gate=gate, packed=packed, beta=2.0)
    inputs, segments = draw(gated_delta_rule, case, rng), packing(case, rng)
    expected = by_hand(inputs, segments)
    with jax.enable_x64(True):
        args = [None if inputs[n] is None else jnp.asarray(inputs[n]) for n in ("q", "k", "v", "log_decay", "beta")]
        o, final = gated_delta_rule(
            *args,
            initial_state=jnp.asarray(inputs["initial_state"]),
            segment_ids=None if segments is None else jnp.asarray(segments),
            implementation="reference",
        )
        live = 1.0 if segments is None else (segments > 0)[..., None, None]
        assert_close((np.asarray(o) * live, np.asarray(final)), expected)


def test_wrong_shapes_and_names_are_refused():
    x = jnp.zeros((1, 4, 2, 8))
    gate = jnp.zeros((1, 4, 3))
    with pytest.raises(ValueError, match="3 value heads are not a multiple of 2"):
        gated_delta_rule(x, x, jnp.zeros((1, 4, 3, 8)), None, gate)
    with pytest.raises(ValueError, match="empty"):
        gated_delta_rule(x[:, :0], x[:, :0], x[:, :0], None, jnp.zeros((1, 0, 2)))
    with pytest.raises(ValueError, match="B = 0"):
        gated_delta_rule(x[:0], x[:0], x[:0], None, jnp.zeros((0, 4, 2)))
