"""The ops of a table on eight devices: their numbers are those of one, and the table stays where it is."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from memjax.ops import put_rows, row_dots, row_gradients, take_rows, value_bag
from memjax.sharding import make_mesh
from tests.ops.value_bag.cases import Case, as_float32, by_hand, dots_by_hand, draw
from tests.tolerances import assert_close

ALL, ROWS = {"data": 2, "fsdp": 2, "tensor": 2}, {"fsdp": 4, "tensor": 2}
WHOLE = Case((8, 2), 3, rows=400, width=8, kind="outside")  # a device's part of the table is larger than all tokens are
UNSPLIT = Case((1, 2), 3, rows=400, width=7, kind="outside")  # neither tokens nor width can be split


def step(values, indices, weights, cotangent):
    """All ops at once: outputs, gradients, the sparse gradient, and the table after a step along it."""
    o, pull_bag = jax.vjp(lambda values, weights: value_bag(values, indices, weights), values, weights)
    s, pull_dots = jax.vjp(lambda values, x: row_dots(values, indices, x), values, cotangent)
    rows, sums = row_gradients(indices, weights, cotangent, values.shape[0])
    table = put_rows(values, rows, take_rows(values, rows) - 0.5 * sums)
    return (o, *pull_bag(cotangent)), (s, *pull_dots(weights)), table, rows, sums


def compile_on(sizes, function, inputs):
    """The compiled function, and the inputs placed; the first is the table, [..., M, V]."""
    if jax.device_count() < 8:
        pytest.skip("needs 8 devices; CPUs are split into 8 by tests/conftest.py")
    mesh = make_mesh(**sizes)
    split = inputs[0].shape[-1] % 2 == 0
    table = NamedSharding(mesh, P(*[None] * (inputs[0].ndim - 2), "fsdp", "tensor" if split else None))
    placed = [jax.device_put(inputs[0], table), *inputs[1:]]
    with jax.set_mesh(mesh):
        compiled = jax.jit(function).lower(*placed).compile()
    return compiled, placed


def dense(rows, sums, shape):
    """What the sparse gradient says of each row of the table."""
    out = np.zeros((shape[0] + 1, shape[1]))
    np.add.at(out, np.asarray(rows), np.asarray(sums))
    assert not out[-1].any()
    return out[:-1]


@pytest.mark.parametrize(
    ("sizes", "case"),
    [(ALL, WHOLE), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((ROWS, WHOLE), (ALL, UNSPLIT)))],
    ids=str,
)
def test_eight_devices_equal_float64(sizes, case, rng):
    inputs = draw(case, rng)
    values, indices, weights, cotangent = inputs
    compiled, placed = compile_on(sizes, step, as_float32(inputs))
    bag, dots, table, rows, sums = compiled(*placed)
    expected = by_hand(*inputs)
    assert_close(bag, expected, gradient=True)
    assert_close(dots, dots_by_hand(values, indices, cotangent, weights), gradient=True)
    assert_close(dense(rows, sums, values.shape), expected[1], dtype="float32", gradient=True)
    assert_close(table, values - 0.5 * expected[1])

    blocks = np.asarray(rows).reshape(sizes["fsdp"], -1)
    for number, block in enumerate(blocks):
        own = block[block < case.rows]
        assert (own // (case.rows // sizes["fsdp"]) == number).all() and (np.diff(own) > 0).all()
        assert (block[own.size :] == case.rows).all()
    width = "tensor" if case is WHOLE else None
    for array in (bag[1], dots[1], table, sums):
        assert array.sharding.is_equivalent_to(NamedSharding(array.sharding.mesh, P("fsdp", width)), 2)
    assert gathered(compiled) < case.rows * case.width // 8


def gathered(compiled):
    """Elements of the largest array that is gathered, exchanged or passed on in a program."""
    shapes = re.findall(r"= .*?\w+\[([\d,]*)\]\S* (?:all-gather|all-to-all|collective-permute)", compiled.as_text())
    return max((int(np.prod([int(n) for n in shape.split(",") if n])) for shape in shapes), default=0)


@pytest.mark.slow
def test_the_sum_over_layers_of_a_shared_table(rng):
    """The gradient of what a loop reads is summed in the loop, and over `data` in each of its turns."""
    layers = [draw(WHOLE, rng) for _ in range(3)]
    values = layers[0][0]
    _, indices, weights, cotangents = (np.stack(x) for x in zip(*layers, strict=True))

    def loss(values, indices, weights, cotangents):
        def layer(h, reads):
            at, weights, cotangent = reads
            return h + value_bag(values, at, weights) * cotangent, None

        return jax.lax.scan(layer, jnp.zeros_like(cotangents[0]), (indices, weights, cotangents))[0].sum()

    compiled, placed = compile_on(ALL, jax.grad(loss), as_float32((values, indices, weights, cotangents)))
    expected, inside = np.zeros_like(values), (indices >= 0) & (indices < WHOLE.rows)
    np.add.at(expected, indices[inside], (weights[..., None] * cotangents[:, :, :, None])[inside])
    assert_close(compiled(*placed), expected, gradient=True)
    assert gathered(compiled) < values.size // 8


@pytest.mark.slow
def test_stacked_tables(rng):
    """A step on two tables at once."""
    tables = [draw(WHOLE, rng) for _ in range(2)]
    inputs = [np.stack(x) for x in zip(*tables, strict=True)]

    def stacked(values, indices, weights, cotangent):
        rows, sums = row_gradients(indices, weights, cotangent, WHOLE.rows, stacked=True)
        return put_rows(values, rows, take_rows(values, rows) - 0.5 * sums)

    compiled, placed = compile_on(ALL, stacked, as_float32(inputs))
    expected = [values - 0.5 * by_hand(values, *reads)[1] for values, *reads in tables]
    assert_close(compiled(*placed), np.stack(expected))
    assert gathered(compiled) < WHOLE.rows * WHOLE.width // 8


@pytest.mark.slow
def test_axes_that_are_manual_already_are_left_alone(rng):
    """Over `data` the caller splits the tokens; over the others the ops do."""
    inputs = as_float32(draw(WHOLE, rng))

    def bag(values, indices, weights):
        tokens = P("data")
        over_data = partial(jax.shard_map, in_specs=(P(), tokens, tokens), out_specs=tokens, axis_names={"data"})
        return over_data(value_bag)(values, indices, weights)

    compiled, placed = compile_on(ALL, bag, inputs[:3])
    assert_close(compiled(*placed), value_bag(*inputs[:3], implementation="reference"))


def test_rows_that_are_no_blocks_are_refused():
    with jax.set_mesh(make_mesh(**ALL)), pytest.raises(ValueError, match="expected 2 blocks"):
        take_rows(jnp.zeros((4, 2)), jnp.zeros(3, jnp.int32))
