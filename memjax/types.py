"""Axis glossary, role types and the few names that every room of the library shares.

Axis letters, used in every shape of this library (jaxtyping strings and prose alike):

    B batch            T time             D width of the residual stream (or channels of an op)
    H key/query heads  G value heads, a multiple of H    K key size of a head    V value size of a head
    W width of a short convolution, in tokens            N state size            M memories or table rows
    J rows read by one token                             C tokens in a chunk
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax

# Names of the mesh axes. `memjax.sharding` is the only place that maps parameters to them.
DATA, FSDP, SEQUENCE, TENSOR = MESH_AXES = ("data", "fsdp", "sequence", "tensor")
BATCH_AXES = (DATA, FSDP)  # the axes over which a batch is split

PER_LAYER = "metric/layer/"  # metrics of this prefix are not averaged over layers: "metric/layer3/..."

State = Any  # a pytree of arrays: a NamedTuple or a struct, documented by the mixer that owns it
Aux = Mapping[str, Any]  # scalars: "loss/..." is added to the training loss, "metric/..." is logged


class MixerOutput(NamedTuple):
    """What every mixer hands back.

    Attributes:
        y: [B, T, D], in the dtype of the input.
        state: what the next call continues from; float32, its shape free of T.
        aux: scalars. Keys `loss/...` are added to the training loss, keys `metric/...` are logged, averaged over layers
            unless they begin with `metric/layer/`. A memory layer that is called with taps adds what it read.
    """

    y: jax.Array
    state: State
    aux: Aux


@runtime_checkable
class Mixer(Protocol):
    """The contract of every mixer; `tests/mixers/test_contract.py` holds each architecture to it."""

    def init_state(self, batch_size: int) -> State: ...

    def __call__(
        self,
        x: jax.Array,
        state: State | None = None,
        *,
        segment_ids: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> MixerOutput: ...


@dataclasses.dataclass(frozen=True)
class MixerConfig:
    """Base of every mixer's configuration: a frozen value that builds its module.

    The base carries no field. It exists so that a backbone can say "any mixer" in a type that the command
    line understands.
    """

    def make(self, width: int, *, rngs: Any) -> Mixer:
        """Builds the module for a residual stream of `width` channels, parameters drawn from `rngs` (`nnx.Rngs`)."""
        raise NotImplementedError(f"{type(self).__name__} does not build a module")
