"""The mesh in use, as the ops see it: which axes they may split over, and a kernel on every device's part."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import AxisType, ManualAxisType, PartitionSpec

from memjax.types import BATCH_AXES, TENSOR


def free_axes() -> dict[str, int]:
    """Axes of the mesh in use and their sizes, without those that are manual already."""
    mesh = jax.sharding.get_abstract_mesh()
    kinds = zip(mesh.axis_names, mesh.axis_sizes, mesh.axis_types, strict=True)
    return {name: size for name, size, kind in kinds if kind == AxisType.Auto}


def dividing(axes: Sequence[str], *sizes: int) -> tuple[str, ...]:
    """Those of these axes that are free and have several devices, () unless they divide each of the sizes."""
    free = free_axes()
    axes = tuple(axis for axis in axes if free.get(axis, 1) > 1)
    devices = math.prod(free[axis] for axis in axes)
    return axes if all(size and size % devices == 0 for size in sizes) else ()


def axis_size(axes: Sequence[str]) -> int:
    """Devices along these axes together."""
    return math.prod(jax.sharding.get_abstract_mesh().shape[axis] for axis in axes)


def spec(*axes: tuple[str, ...]) -> PartitionSpec:
    """A PartitionSpec with the mesh axes of each array axis; an empty tuple splits nothing."""
    return PartitionSpec(*(names or None for names in axes))


def over_devices(local: Callable, in_specs: Any, out_specs: Any, *, check_vma: bool = True) -> Callable:
    """All free axes become manual, those too that split nothing, so that XLA does not partition what is inside."""
    return jax.shard_map(
        local, in_specs=in_specs, out_specs=out_specs, axis_names=set(free_axes()), check_vma=check_vma
    )


def kernel_on_each(
    kernel: Callable,
    inputs: Sequence[Any],
    dims: Sequence[str],
    out_dims: Sequence[str],
    *,
    batch: int,
    split: int | Sequence[int],
) -> Any:
    """`kernel(*inputs)`, on every device with its part of the inputs; XLA cannot partition a kernel by itself.

    Args:
        kernel: a function of the inputs to a tuple; it is not differentiated.
        inputs: arrays, or None.
        dims: for each input a letter an axis: "b" is split over `data` and `fsdp`, "s" over `tensor`, "." over nothing.
        out_dims: the same for the outputs.
        batch: the size that "b" must divide, else it is not split.
        split: the size, or the sizes, that "s" must divide.
    """
    if not free_axes():
        return kernel(*inputs)
    sizes = [split] if isinstance(split, int) else split
    axes = {"b": dividing(BATCH_AXES, batch), "s": dividing((TENSOR,), *sizes), ".": ()}
    specs = lambda dims: tuple(spec(*(axes[letter] for letter in letters)) for letters in dims)
    given = [x is not None for x in inputs]

    def local(*present):
        arrays = iter(present)
        return kernel(*(next(arrays) if there else None for there in given))

    present = [(x, letters) for x, letters in zip(inputs, dims, strict=True) if x is not None]
    in_specs = specs(letters for _, letters in present)
    return over_devices(local, in_specs, specs(out_dims), check_vma=False)(*(x for x, _ in present))


def like(shape: Sequence[int], dtype: Any, *arrays: jax.Array) -> jax.ShapeDtypeStruct:
    """What a kernel gives out, under `jax.shard_map` different from device to device where any of the arrays is."""
    varying = frozenset().union(*(jax.typeof(x).manual_axis_type.varying for x in arrays))
    return jax.ShapeDtypeStruct(shape, dtype, manual_axis_type=ManualAxisType(varying=varying))


def varying_as(arrays: Sequence[jax.Array], *others: jax.Array) -> list[jax.Array]:
    """The arrays, under `jax.shard_map` marked as different from device to device where any of the others is."""
    varying = lambda x: jax.typeof(x).manual_axis_type.varying
    axes = frozenset().union(*map(varying, others))
    missing = [tuple(axes - varying(x)) for x in arrays]
    return [jax.lax.pcast(x, more, to="varying") if more else x for x, more in zip(arrays, missing, strict=True)]
