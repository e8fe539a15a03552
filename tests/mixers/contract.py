"""Finds every architecture by itself, and says what the contract exempts."""

import functools
import importlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from memjax import mixers
from memjax.types import MixerConfig

WIDTH = 32


def architectures() -> list[type[MixerConfig]]:
    """The one config of every file in mixers/ without a leading underscore."""
    found = []
    for module in pkgutil.iter_modules(mixers.__path__):
        if module.name.startswith("_"):
            continue
        namespace = vars(importlib.import_module(f"memjax.mixers.{module.name}"))
        own = [
            value
            for value in namespace.values()
            if isinstance(value, type)
            and issubclass(value, MixerConfig)
            and value.__module__ == f"memjax.mixers.{module.name}"
        ]
        assert len(own) == 1, f"memjax/mixers/{module.name}.py has {len(own)} configs, not one"
        assert getattr(mixers, own[0].__name__) is own[0], f"memjax.mixers does not export {own[0].__name__}"
        found.append(own[0])
    return found


@functools.cache
def build(config: type[MixerConfig], seed: int = 0):
    """The mixer from its defaults, every parameter nudged so that none sits at a special value; tests share it."""
    module = config().make(WIDTH, rngs=nnx.Rngs(seed))
    graphdef, params = nnx.split(module)
    leaves, structure = jax.tree.flatten(params)
    rng = np.random.default_rng(seed)
    nudged = [np.asarray(leaf) + 0.05 * rng.normal(size=leaf.shape) for leaf in leaves]
    leaves = [jnp.asarray(new.astype(old.dtype)) for new, old in zip(nudged, leaves, strict=True)]
    return nnx.merge(graphdef, jax.tree.unflatten(structure, leaves))


def exempt(module, point: str) -> bool:
    """Whether the class says, with a reason, that it cannot meet a point of the contract."""
    reasons = getattr(type(module), "contract_exempt", {})
    return bool(reasons.get(point))


def inputs(batch: int, time: int, seed: int = 1) -> np.ndarray:
    """Normal numbers [batch, time, WIDTH]; numpy's, so that a slice of them is nothing to compile."""
    return np.random.default_rng(seed).normal(size=(batch, time, WIDTH)).astype(np.float32)
