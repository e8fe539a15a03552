"""Is a checkpoint on disk still what was written?

Two guards, because Orbax's storage checks its own metadata but not the array bytes (one flipped bit in a data file
comes back as a wrong number), and because reading a truncated file through it floods the terminal:

- a manifest with the size of every file, and a checksum of the small ones, written before the checkpoint commits;
- a fingerprint of every array, computed where the array lives, so that it needs no gathering and no second read and is
  the same on every mesh.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

MANIFEST = "manifest.json"
_NOT_DATA = ("_CHECKPOINT_METADATA", "commit_success.txt")  # Orbax writes these after the data, and reads neither
_CHECKSUM_BELOW = 1 << 20  # bytes; larger files are array data, which the fingerprints cover


class DamagedError(Exception):
    """A checkpoint whose files or numbers are not what was written."""


def write_manifest(directory: Path) -> None:
    """Records what `directory` holds now in its manifest file."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.name not in _NOT_DATA)
    manifest = {str(path.relative_to(directory)): _describe(path) for path in files}
    (directory / MANIFEST).write_text(json.dumps(manifest))


def verify_files(directory: Path) -> None:
    """Raises DamagedError naming the first file of `directory` that is missing or differs from the manifest."""
    try:
        manifest = json.loads((directory / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        raise DamagedError(f"{MANIFEST} is missing or unreadable") from error
    for name, expected in manifest.items():
        path = directory / name
        if not path.is_file():
            raise DamagedError(f"{name} is missing")
        if _describe(path) != expected:
            raise DamagedError(f"{name} has changed")


def _describe(path: Path) -> list[int | None]:
    size = path.stat().st_size
    return [size, zlib.crc32(path.read_bytes()) if size < _CHECKSUM_BELOW else None]


def fingerprints(arrays: dict[str, jax.Array]) -> tuple[dict[str, int], list[str]]:
    """A 32-bit fingerprint of each array, and the names of those that hold NaN or infinity, in order.

    The fingerprint is the sum of the elements' bits modulo 2^32: exact in any order, so it does not depend on how the
    array is sharded. Arrays that lie in this host's memory are read there, which spares a compilation.
    """
    values, here = list(arrays.values()), jax.default_backend() == "cpu"
    if here and all(x.is_fully_addressable for x in values):
        measured = [_measure(np.asarray(x)) for x in values]
    else:
        measured = jax.device_get(_measure_all(values))
    marks = {name: int(mark) for name, (mark, _) in zip(arrays, measured, strict=True)}
    return marks, [name for name, (_, finite) in zip(arrays, measured, strict=True) if not finite]


@jax.jit
def _measure_all(arrays: list[jax.Array]) -> list[tuple[jax.Array, jax.Array]]:
    return [_measure(x) for x in arrays]


def _measure(x: Any) -> tuple[Any, Any]:
    """(sum of the bits, is every element finite) of a NumPy or JAX array."""
    finite = (jnp.isfinite if isinstance(x, jax.Array) else np.isfinite)(x).all()
    return x.view(f"uint{8 * x.dtype.itemsize}").sum(dtype=np.uint32), finite
