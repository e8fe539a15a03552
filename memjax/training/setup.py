"""What a run needs before its first step: the jitted step and a state that was never on one device as a whole."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from memjax.config import TrainConfig
from memjax.sharding import replicated, shardings
from memjax.training.checkpoints import CheckpointStore, restore_parameters
from memjax.training.runs import position_of
from memjax.training.skeleton import Skeleton, initial_parameters
from memjax.training.step import Batch, Metrics, TrainState, make_step
from memjax.training.update import Optimizer


class Setup(NamedTuple):
    """Attributes:
    skeleton: the model without its numbers.
    step: jitted (state, batch) -> (state, metrics), the state donated.
    initial: jitted () -> fresh state, each shard made where it stays.
    abstract: shapes, dtypes and shardings of the state.
    """

    skeleton: Skeleton
    step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
    initial: Callable[[], TrainState]
    abstract: TrainState


def prepare(config: TrainConfig, mesh: Mesh) -> Setup:
    """Traces nothing expensive and allocates nothing; compilation happens at the first call of each function."""
    skeleton = Skeleton.of(config.model)
    optimizer = Optimizer(config, skeleton)

    def initial() -> TrainState:
        parameters = initial_parameters(config.model, config.seed)
        return TrainState(parameters, optimizer.init(parameters), jnp.zeros((), jnp.int32))

    shapes = jax.eval_shape(initial)
    layout = shardings(shapes, mesh)
    abstract = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, layout)
    step = jax.jit(make_step(config, skeleton, optimizer), donate_argnums=0, out_shardings=(layout, replicated(mesh)))
    return Setup(skeleton, step, jax.jit(initial, out_shardings=layout), abstract)


def start(config: TrainConfig, setup: Setup, store: CheckpointStore, iterator, say: Callable[[str], None]):
    """(state, step) to go on from: the newest intact checkpoint, another run's weights (`init_from`), or fresh ones.

    Also moves the data `iterator` to where the checkpoint left it.
    """
    restored = store.restore(setup.abstract)
    if restored is not None:
        iterator.set_state(position_of(restored.positions))
        say(f"going on from step {restored.step}")
        return restored.state, restored.step
    state = setup.initial()
    if config.init_from:
        step, parameters = restore_parameters(config.init_from, setup.abstract.parameters, say)
        say(f"starting from the weights of {config.init_from}, step {step}")
        state = state._replace(parameters=parameters)
    return state, 0
