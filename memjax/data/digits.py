"""Pictures of digits as rows of pixels, from idx files that are already on disk.

A data source and no task: a task draws its rows from a seed and is the same on every machine, with no end to its rows;
these come from a file that a machine may not have, with a training and a held-out part that must not mix, and one epoch
ends where the file does. What trains is a pure function of (seed, batch index), as everywhere, so resuming is exact.

The held-out pictures are drawn by a permutation with a seed of its own, because the order of a file may mean something
(MNIST's 10,000 test pictures are sorted: the first half is the easier one). An accuracy on pictures held out of those
10,000 is not the usual test accuracy on MNIST, which trains on 60,000 others.
"""

import functools
import gzip
import sys
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from memjax.data.config import DigitData

_SPLIT_SEED = 0x64696769747300  # "digits" in ASCII
_KIND = {3: "images", 1: "labels"}  # by number of axes


def check(data: DigitData) -> None:
    """Raises FileNotFoundError or ValueError, in one line, where the files cannot serve."""
    if not data.path:
        raise ValueError("data.path is empty: give the folder that holds the idx files of the pictures")
    count = len(load(data)[1])
    if not 0 < data.held_out < count:
        raise ValueError(f"data.held_out must lie between 0 and the {count} pictures in {data.path}: {data.held_out}")


def load(data: DigitData) -> tuple[Float32[np.ndarray, "M T 1"], Int32[np.ndarray, "M 1"]]:
    """Returns all pictures, rows of pixels from top left in [0, 1], and their classes; errors are those of `check`."""
    return _load(data.path, data.files, data.size)


def split(data: DigitData) -> tuple[Int32[np.ndarray, "M"], Int32[np.ndarray, "H"]]:
    """Returns the numbers of the pictures that train and of those held out, the same for every seed of a run."""
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(load(data)[1])).astype(np.int32)
    return order[data.held_out :], order[: data.held_out]


class DigitBatches:
    """Random access to training batches; `len` is endless. Each epoch is mixed anew, its incomplete batch left out."""

    def __init__(self, data: DigitData, *, batch_size: int, seed: int, rows: range):
        """Takes the whole batch's size, and the `rows` of it that this process keeps."""
        self._seed, self._batch_size, self._rows = seed, batch_size, rows
        (self._pictures, self._classes), self._train = load(data), split(data)[0]
        self._batches = len(self._train) // batch_size
        if not self._batches:
            raise ValueError(f"data: {len(self._train)} training pictures do not fill a batch of {batch_size} rows")
        self._order = functools.lru_cache(maxsize=2)(self._draw_order)

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> dict[str, Any]:
        epoch, number = divmod(index, self._batches)
        batch = self._order(epoch)[number * self._batch_size :][self._rows.start : self._rows.stop]
        return {"inputs": self._pictures[batch], "targets": self._classes[batch]}

    def _draw_order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self._seed, epoch)).permutation(self._train)


class HeldOutBatches:
    """The held-out pictures in order; the last batch is filled up with pictures whose target is -1 (not scored)."""

    def __init__(self, data: DigitData, *, batch_size: int, rows: range):
        (self._pictures, self._classes), self._held_out = load(data), split(data)[1]
        self._batch_size, self._rows = batch_size, rows

    def __len__(self) -> int:
        return -(-len(self._held_out) // self._batch_size)

    def __getitem__(self, index: int) -> dict[str, Any]:
        first = index * self._batch_size
        numbers = np.arange(first, first + self._batch_size)[self._rows.start : self._rows.stop]
        found = self._held_out[numbers % len(self._held_out)]
        real = (numbers < len(self._held_out))[:, None]
        return {"inputs": self._pictures[found], "targets": np.where(real, self._classes[found], -1).astype(np.int32)}


@functools.lru_cache(maxsize=2)
def _load(folder: str, files: str, size: int):
    images, labels = (read_idx(Path(folder) / f"{files}-{_KIND[n]}-idx{n}-ubyte.gz", axes=n) for n in (3, 1))
    if images.shape[1:] != (28, 28) or len(images) != len(labels):
        raise ValueError(f"{folder}: {files} holds {images.shape} pixels and {labels.shape} classes")
    pixels = images.astype(np.float32) / 255
    if size == 14:
        pixels = pixels.reshape(-1, 14, 2, 14, 2).mean((2, 4))
    return pixels.reshape(len(pixels), -1, 1), labels.astype(np.int32)[:, None]


def read_idx(path: Path, *, axes: int) -> UInt8[np.ndarray, "..."]:
    """Returns the bytes of a gzipped idx file with that many axes.

    Format: http://yann.lecun.com/exdb/mnist/ : two zero bytes, the type (8: unsigned byte), the number of axes, each
    axis as a big-endian int32, then the numbers. Raises FileNotFoundError, or ValueError where it is something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"data.path: there is no {path}")
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{path}: not a whole gzip file ({error})") from None
    shape = tuple(np.frombuffer(content[4 : 4 + 4 * axes], ">i4").tolist())
    if content[:4] != bytes((0, 0, 8, axes)) or len(content) != 4 + 4 * axes + int(np.prod(shape)):
        raise ValueError(f"{path}: not an idx file of unsigned bytes with {axes} axes")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
