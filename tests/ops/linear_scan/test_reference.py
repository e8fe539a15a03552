import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.ops import linear_scan
from tests.ops.linear_scan.cases import ALL, Case, draw
from tests.ops.packing import packing
from tests.tolerances import assert_close


def by_hand(decay, x, state, segments, reverse):
    """The definition as loops over rows and tokens."""
    h, last = np.zeros(x.shape, np.result_type(decay, x, state)), state.copy()
    decay = np.broadcast_to(decay, x.shape)
    for b in range(x.shape[0]):
        s, current = state[b].copy(), None
        for t in reversed(range(x.shape[1])) if reverse else range(x.shape[1]):
            if segments is not None and segments[b, t] == 0:
                h[b, t] = s
                continue
            if segments is not None and current is not None and segments[b, t] != current:
                s = np.zeros_like(s)
            current = None if segments is None else segments[b, t]
            h[b, t] = s = decay[b, t] * s + x[b, t]
        last[b] = s
    return h, last


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [(), ALL])
@pytest.mark.parametrize("constant", [False, True])
def test_reference_is_the_definition(constant, kind, packed, reverse, rng):
    case = Case(50, packed=packed, constant=constant, complex=kind)
    inputs, segments = draw(case, rng), packing(case, rng)
    expected = by_hand(*(inputs[n] for n in ALL), segments, reverse)
    with jax.enable_x64(True):
        actual = linear_scan(
            jnp.asarray(inputs["decay"]),
            jnp.asarray(inputs["x"]),
            initial_state=jnp.asarray(inputs["initial_state"]),
            segment_ids=None if segments is None else jnp.asarray(segments),
            reverse=reverse,
            implementation="reference",
        )
        assert_close(jax.tree.map(np.asarray, actual), expected)


def test_dtypes_of_the_results():
    real, half = jnp.ones((1, 3, 2)), jnp.ones((1, 3, 2), jnp.bfloat16)
    dtypes = lambda *x: tuple(str(y.dtype) for y in linear_scan(*x))
    assert dtypes(real, real) == ("float32", "float32")
    assert dtypes(real, half) == ("bfloat16", "float32")
    assert dtypes(real.astype(jnp.complex64), half) == ("complex64", "complex64")
    assert dtypes(real, real.astype(jnp.complex64)) == ("complex64", "complex64")


def test_an_empty_sequence_and_a_coarse_decay_are_refused():
    x = jnp.zeros((1, 4, 2))
    with pytest.raises(ValueError, match="empty"):
        linear_scan(x[:, :0], x[:, :0])
    with pytest.raises(ValueError, match="decay is bfloat16, too coarse"):
        linear_scan(x.astype(jnp.bfloat16), x)
