"""Which implementation None takes, and that every host can trace it."""

import jax
import jax.numpy as jnp
import pytest

from memjax.ops import row_gradients, value_bag
from memjax.ops.value_bag import differentiable, gradients, tiling
from memjax.sharding import make_mesh
from tests.ops.value_bag.both_ops import bag, dots, expected, shapes
from tests.ops.value_bag.cases import Case, as_float32, draw
from tests.tolerances import assert_close


def test_none_traces_the_kernels_under_every_transformation(rng, monkeypatch):
    """With None every host traces them, and a CPU runs XLA's form."""
    monkeypatch.setattr(tiling, "WORTH", 0)
    inputs = as_float32(draw(Case((8,), 3, rows=32, width=256, kind="outside"), rng))
    everything = lambda *x: (bag(*x), dots(*x), row_gradients(*x[1:], 32)[1].sum(0))
    assert "pallas_call" in str(jax.make_jaxpr(everything)(*inputs))
    alone = jax.jit(everything)(*inputs)
    d_values = expected(bag, *inputs)[1]
    assert_close(alone, (expected(bag, *inputs), expected(dots, *inputs), d_values.sum(0)), gradient=True)
    mapped = jax.jit(jax.vmap(everything))(*(jnp.stack([x, x]) for x in inputs))
    assert_close(jax.tree.map(lambda x: x[1], mapped), alone)
    with jax.set_mesh(make_mesh(data=2, fsdp=2, tensor=2)):
        assert_close(jax.jit(everything)(*inputs), alone, gradient=True)


def test_a_kernel_is_taken_where_there_is_something_to_read():
    few, many = shapes(tokens=4, reads=2)[:3], shapes()[:3]
    both = ("pallas_tpu", "pallas_gpu") if jax.__version_info__ >= (0, 11) else ("pallas_tpu",)
    assert differentiable.choose("value_bag", None, *few).kernels == ()
    assert differentiable.choose("value_bag", None, *many).kernels == both
    assert differentiable.choose("value_bag", "pallas_tpu", *few).kernels == ("pallas_tpu",)
    assert differentiable.choose("value_bag", "xla", *many).kernels == ()


@pytest.mark.parametrize("name", [None, "pallas_tpu", "xla"])
def test_so_is_the_kernel_that_sums_the_gradient_of_a_table(name):
    def traced(**sizes):
        values, *inputs = shapes(**sizes)
        gradient = lambda *x: gradients.dense(*x, jnp.zeros(values.shape), name)
        return "pallas_call" in str(jax.make_jaxpr(gradient)(*inputs))

    assert traced() == (name != "xla")
    assert traced(tokens=4, reads=2) == (name == "pallas_tpu")
    assert not traced(width=64)  # which it cannot serve


@pytest.mark.parametrize("name", ["pallas_tpu", "pallas_gpu"])
def test_a_named_kernel_that_cannot_serve_says_why(name):
    reason = "multiple of 128" if name == "pallas_tpu" or jax.__version_info__ >= (0, 11) else "it needs jax 0.11"
    with pytest.raises(NotImplementedError, match=reason):
        value_bag(jnp.zeros((8, 64)), jnp.zeros((4, 2), int), jnp.zeros((4, 2)), implementation=name)
