"""Where every parameter lives: a table from path patterns to partition specs, and the mesh they refer to.

Matrices are stored [in, out], stacked over layers [R, in, out]. Projections into a layer's heads or hidden channels
are column-parallel (out over `tensor`), projections back to the residual stream row-parallel (in over `tensor`), as
in Megatron-LM (https://arxiv.org/abs/1909.08053): between the two no communication over `tensor` is needed. The other
side of a matrix is split over `fsdp` and gathered when it is used (ZeRO-3, https://arxiv.org/abs/1910.02054).

A spec names the LAST axes of a parameter; the axes before them, the stack of layers among them, are not split. An
axis of the mesh that does not divide its dimension is dropped for that parameter. State of an optimizer has the path
of its parameter at the end of its own path, so that the same table places it.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from memjax.types import BATCH_AXES, FSDP, MESH_AXES, TENSOR

Path = tuple[Any, ...]

# First match wins, searched in the path. A parameter that has fewer axes of its own (the stack of layers not counted)
# than the spec names, a vector, is replicated. The last rule is for what a new mixer brings: matrices are split
# without knowing their role, which is correct for every role and costs communication only.
RULES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (r"(^|/)embed/table$", (TENSOR, FSDP)),
    (r"(^|/)head/kernel$", (FSDP, TENSOR)),
    (r"/(scale|bias|A_log|dt_bias)$", ()),
    (
        r"/conv[^/]*/kernel$",
        (None, TENSOR),
    ),  # depthwise [W, D]: its channels follow those of the projection before
    (r"/(output|down)/kernel$", (TENSOR, FSDP)),
    (r"/kernel$", (FSDP, TENSOR)),
    (r"", (FSDP, TENSOR)),
)

BATCH = PartitionSpec(BATCH_AXES)  # axis 0 of a batch, over all devices that hold different rows

_STACKED = re.compile(r"(^|/)blocks/\d+/")


def make_mesh(
    data: int = 1,
    fsdp: int = 1,
    sequence: int = 1,
    tensor: int = 1,
    devices: Sequence[Any] | None = None,
) -> Mesh:
    """The mesh with axes data, fsdp, sequence, tensor, which XLA partitions by itself (`AxisType.Auto`).

    Args:
        data, fsdp, sequence, tensor: devices along each axis; one of them may be -1, all that the others leave.
        devices: what the mesh is made of, None: all devices. In a single process the first ones are taken if the axes
            need fewer.

    Raises ValueError, naming the number of devices, if they do not fit.
    """
    devices = jax.devices() if devices is None else list(devices)
    sizes = [data, fsdp, sequence, tensor]
    wanted = " x ".join(f"{name} {size}" for name, size in zip(MESH_AXES, sizes, strict=True))
    known = math.prod(size for size in sizes if size != -1)
    if any(size < 1 and size != -1 for size in sizes) or sizes.count(-1) > 1:
        raise ValueError(f"mesh {wanted}: axes are positive, and at most one is -1")
    if -1 in sizes:
        sizes[sizes.index(-1)] = max(len(devices) // known, 1)
    needed = math.prod(sizes)
    exact = -1 in (data, fsdp, sequence, tensor) or jax.process_count() > 1
    if needed > len(devices) or (exact and needed != len(devices)):
        raise ValueError(f"mesh {wanted} does not fit, number of devices: {len(devices)}")
    axis_types = (AxisType.Auto,) * len(sizes)
    return jax.make_mesh(tuple(sizes), MESH_AXES, axis_types=axis_types, devices=devices[:needed])


def path_name(path: Path) -> str:
    """The name of a leaf from its path in a pytree: "blocks/0/mixer/query/kernel".

    The attribute behind which Flax keeps the array of a variable is left out, so a module, its split-off state and a
    dictionary that is keyed by names all give the same name.
    """
    if len(path) > 1 and isinstance(path[-1], jax.tree_util.GetAttrKey) and path[-1].name in ("value", "raw_value"):
        path = path[:-1]
    return "/".join(_key(entry) for entry in path)


def _key(entry: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    return str(entry)


def spec_for(name: str, shape: Sequence[int], mesh: Mesh) -> PartitionSpec:
    """The spec of the parameter (or of optimizer state) at path `name`: an entry for each axis, () if replicated."""
    spec = next(spec for pattern, spec in RULES if re.search(pattern, name))
    own = len(shape) - bool(_STACKED.search(name))
    if not spec or own < len(spec):
        return PartitionSpec()
    axes = [None] * (len(shape) - len(spec)) + list(spec)
    kept = [
        axis if axis is not None and mesh.shape[axis] > 1 and size % mesh.shape[axis] == 0 else None
        for axis, size in zip(axes, shape, strict=True)
    ]
    return PartitionSpec(*kept) if any(kept) else PartitionSpec()


def shardings(tree: Any, mesh: Mesh) -> Any:
    """The NamedSharding of every leaf, in a tree of the same structure.

    Args:
        tree: arrays or anything with a shape (`jax.eval_shape`): parameters, optimizer state, or both together.
        mesh: from `make_mesh`.
    """

    def place(path, leaf):
        return NamedSharding(mesh, spec_for(path_name(path), leaf.shape, mesh))

    return jax.tree_util.tree_map_with_path(place, tree)


def batch_sharding(mesh: Mesh, *, axis: int = 0) -> NamedSharding:
    """The sharding of a batch whose rows lie on `axis`: split over data and fsdp, copied over the others."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())
