import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax.experimental import topologies
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from memjax.mixers import GatedDeltaNetConfig
from memjax.models import LM, BlockConfig, LMConfig
from memjax.types import FSDP, MESH_AXES
from tests.ahead_of_time import finish, kernels_in, topology


@pytest.mark.aot
@pytest.mark.parametrize("chip", ["v5e", "h200"])
def test_the_gradient_of_a_model_over_a_mesh_runs_kernels(chip):
    """In a scan over layers that are rematerialised, batch over fsdp and heads over tensor."""
    mesh = topologies.make_mesh(topology(chip, 4), (1, 2, 1, 2), MESH_AXES)
    block = BlockConfig(GatedDeltaNetConfig(heads=2, head_dim=128), mlp=None)
    config = LMConfig(vocab_size=256, width=256, blocks=(block,), repeats=2, remat="full")
    graph, parameters = nnx.split(nnx.eval_shape(lambda: LM(config, rngs=nnx.Rngs(0))))
    place = lambda x, spec: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec))
    parameters = jax.tree.map(lambda x: place(x, P()), parameters)
    tokens = place(jax.ShapeDtypeStruct((4, 512), jnp.int32), P(FSDP))

    def loss(parameters, tokens):
        hidden, _, _ = nnx.merge(graph, parameters).hidden(tokens, dtype=jnp.bfloat16)
        return hidden.astype(jnp.float32).sum()

    with jax.set_mesh(mesh):
        compiled = finish(chip, jax.jit(jax.grad(loss)).lower(parameters, tokens))
    assert kernels_in(compiled) >= 4
