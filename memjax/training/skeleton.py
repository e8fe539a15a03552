"""A model taken apart into what never changes and a flat dictionary {path: array}, and put together again.

Everything in training (optimiser, checkpoints, shardings, the name in an error) works on that dictionary, so nothing
of it depends on how a version of Flax nests a module's variables.
"""

import dataclasses
from typing import Any

import jax
from flax import nnx

from memjax.models import LM, BackboneConfig, SequenceModel, build
from memjax.sharding import path_name

Parameters = dict[str, jax.Array]
Model = LM | SequenceModel


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """A model without its numbers.

    Attributes:
        graphdef: Flax's static description.
        treedef: structure of the split-off variables.
        abstract: shape and dtype of each parameter by path, in the order of `treedef`.
    """

    graphdef: Any
    treedef: Any
    abstract: dict[str, jax.ShapeDtypeStruct]

    @classmethod
    def of(cls, config: BackboneConfig) -> "Skeleton":
        """The skeleton of the model that `config` describes; nothing is allocated."""
        return cls._split(jax.eval_shape(lambda: build(config, rngs=nnx.Rngs(0))))

    @classmethod
    def _split(cls, model: Model) -> "Skeleton":
        graphdef, state = nnx.split(model)
        treedef = jax.tree.structure(state)
        return cls(graphdef, treedef, {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in _named(state)})

    def model(self, parameters: Parameters) -> Model:
        """The model that holds `parameters`. Traceable, costs nothing at run time."""
        return nnx.merge(self.graphdef, jax.tree.unflatten(self.treedef, [parameters[n] for n in self.abstract]))

    def flops_per_token(self, length: int) -> float:
        """The model's own count of forward FLOPs per token in rows of `length`; nothing is computed."""
        counts = []
        jax.eval_shape(lambda parameters: counts.append(self.model(parameters).flops_per_token(length)), self.abstract)
        return counts[0]


def initial_parameters(config: BackboneConfig, seed: int) -> Parameters:
    """Fresh parameters by path, drawn from `seed`. Traceable, so that a jit can place each shard where it belongs."""
    return parameters_of(build(config, rngs=nnx.Rngs(seed)))


def parameters_of(model: Model) -> Parameters:
    """The parameters of `model` by path."""
    return dict(_named(nnx.split(model)[1]))


def _named(state) -> list[tuple[str, Any]]:
    return [(path_name(path), x) for path, x in jax.tree_util.tree_leaves_with_path(state)]
