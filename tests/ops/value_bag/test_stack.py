"""A table of a stack is read where it lies: the same as taking it out first."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.ops import row_dots, value_bag
from tests.tolerances import assert_close


@pytest.mark.parametrize("op", [value_bag, row_dots], ids=lambda op: op.__name__)
def test_layer_reads_one_table_of_a_stack(op, rng):
    tables = jnp.asarray(rng.normal(size=(3, 5, 4)), jnp.float32)
    indices = jnp.asarray(rng.integers(-1, 6, size=(6, 7)), jnp.int32)  # the ends read nothing, not a neighbour's rows
    other = jnp.asarray(rng.normal(size=(6, 7 if op is value_bag else 4)), jnp.float32)
    loss = lambda out: jnp.sum(jnp.sin(out))
    inside = lambda tables, other, layer: loss(op(tables, indices, other, layer=layer))
    taken = lambda tables, other, layer: loss(op(tables[layer], indices, other))
    for layer in (0, 2):
        actual, wanted = (jax.jit(jax.value_and_grad(f, (0, 1)))(tables, other, layer) for f in (inside, taken))
        assert_close(actual, wanted, gradient=True)
        assert not np.any(np.delete(actual[1][0], layer, axis=0))


def test_a_stack_needs_a_layer_and_a_table_none():
    table, indices, weights = jnp.ones((5, 4)), jnp.zeros((2, 3), jnp.int32), jnp.ones((2, 3))
    with pytest.raises(ValueError, match="layer="):
        value_bag(table[None], indices, weights)
    with pytest.raises(ValueError, match="layer="):
        value_bag(table, indices, weights, layer=0)
