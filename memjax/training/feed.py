"""From the loader's rows to arrays on the devices, a little ahead of the step that needs them."""

import collections
import concurrent.futures
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from memjax.sharding import batch_sharding
from memjax.training.step import Batch

Rows = Mapping[str, np.ndarray]


class Feed:
    """Iterator over (batch, position): `position` is where the data stands after that very batch.

    Batches are drawn in order by one background thread, so what is drawn never depends on timing; the position is taken
    with the batch, so reading ahead does not show in a checkpoint.
    """

    def __init__(self, iterator: Iterator[Rows], place: Callable[[Rows], Batch], *, ahead: int = 2):
        """Reads `ahead` batches ahead of `iterator` (grain's: has get_state) and hands each to `place`."""
        self._iterator: Any = iterator
        self._place = place
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="memjax-feed")
        self._ready = collections.deque(self._thread.submit(self._draw) for _ in range(ahead))

    def __iter__(self) -> "Feed":
        return self

    def __next__(self) -> tuple[Batch, Any]:
        drawn = self._ready.popleft().result()
        self._ready.append(self._thread.submit(self._draw))
        return drawn

    def __enter__(self):
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        self._thread.shutdown(wait=not interrupted, cancel_futures=True)

    def _draw(self) -> tuple[Batch, Any]:
        rows = next(self._iterator)
        return self._place(rows), self._iterator.get_state()


def make_place(mesh: Mesh, accumulate: int, scored: Mapping[int, int] | None) -> Callable[[Rows], Batch]:
    """The function that turns the rows of this process into its part of a global batch.

    Args:
        mesh: the batch is split over its data and fsdp axes.
        accumulate: number of micro-batches.
        scored: for rows of benchmark tasks, the bound of scored positions in a row by its length; None for text, where
            any position may be scored. Task rows are whole documents, so their segment ids (all 1) stay behind.
    """
    sharding = batch_sharding(mesh, axis=1)

    def place(rows: Rows) -> Batch:
        rows = {name: x.reshape(accumulate, -1, *x.shape[1:]) for name, x in rows.items()}
        if scored is not None:
            rows = keep_scored({n: x for n, x in rows.items() if n != "segment_ids"}, scored[rows["tokens"].shape[-1]])
        if jax.process_count() == 1:
            return jax.device_put(dict(rows), sharding)
        return {name: jax.make_array_from_process_local_data(sharding, x) for name, x in rows.items()}

    return place


def keep_scored(rows: Rows, bound: int) -> Rows:
    """Rows with targets [..., T] cut down to the scored ones, [..., bound], and their "positions".

    Unchanged where that would not halve the work. Positions past the last scored one have target -1. Raises ValueError
    where a row has more scored positions than `bound`.
    """
    targets = rows["targets"]
    most = int((targets >= 0).sum(-1).max())
    if most > bound:
        raise ValueError(f"data: a row has {most} scored positions, more than the {bound} that its task declares")
    if 2 * bound > targets.shape[-1]:
        return rows
    positions = np.argsort(targets < 0, axis=-1, kind="stable")[..., :bound].astype(np.int32)
    return {**rows, "targets": np.take_along_axis(targets, positions, -1), "positions": positions}
