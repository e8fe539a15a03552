"""Batches of task rows as a pure function of (seed, batch index): random access, exact resume, nothing on disk."""

import functools
import sys
import threading

import numpy as np

from memjax import tasks
from memjax.data.config import TaskData
from memjax.tasks import TaskConfig

Batch = dict[str, np.ndarray]  # [B, T] token ids and the like; [B, T, F] real-valued rows

KEPT_BYTES = 1 << 29  # of fixed batches held in memory, so that later epochs need not draw them again
_ROWS, _ORDER = 0, 1  # streams of random numbers under one seed


class TaskBatches:
    """Random access to the batches of a mixture; `len` is endless.

    Fixed slices: an epoch is every whole batch of every slice (rows that do not fill a batch are dropped) and every
    epoch has the same batches; "sequential" runs slice after slice, "shuffled" mixes all batches anew each epoch.
    Fresh slices take turns: a round has one new batch of each, in the order written or mixed anew each round.
    """

    def __init__(self, data: TaskData, *, batch_size: int, seed: int, rows: range):
        """Takes the whole batch's size, and the `rows` of it that this process keeps.

        Raises:
            ValueError: fixed and fresh slices are mixed, or a slice has fewer examples than a batch has rows.
        """
        self._data, self._batch_size, self._seed, self._rows = data, batch_size, seed, rows
        self._fixed = data.train[0].examples is not None
        counts = [1 if s.examples is None else s.examples // batch_size for s in data.train]
        for number, (part, count) in enumerate(zip(data.train, counts, strict=True)):
            if (part.examples is None) == self._fixed:
                raise ValueError("data.train: give every slice a number of examples (fixed sets) or none (fresh rows)")
            if not count:
                raise ValueError(
                    f"data.train.{number}: {part.examples} examples do not fill one batch of {batch_size} rows"
                )
        self._ends = np.cumsum(counts)
        self._order = functools.lru_cache(maxsize=2)(self._draw_order)
        self._kept: dict[tuple[int, int], Batch] = {}
        self._kept_bytes, self._lock = 0, threading.Lock()

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> Batch:
        part, number = self.locate(index)
        if kept := self._kept.get((part, number)):
            return {name: value.copy() for name, value in kept.items()}
        return self._draw(part, number)

    def locate(self, index: int) -> tuple[int, int]:
        """Returns which slice batch `index` comes from and which batch of that slice it is."""
        epoch, position = divmod(index, int(self._ends[-1]))
        if self._data.order == "shuffled":
            position = int(self._order(epoch)[position])
        part = int(np.searchsorted(self._ends, position, side="right"))
        first = int(self._ends[part - 1]) if part else 0
        return part, position - first if self._fixed else epoch

    def _rng(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=stream))

    def _draw_order(self, epoch: int) -> np.ndarray:
        return self._rng(_ORDER, epoch).permutation(int(self._ends[-1]))

    def _draw(self, part: int, number: int) -> Batch:
        # every process draws the whole batch and keeps its rows: the batch is the same for any number of processes
        config = self._data.train[part].task
        drawn = tasks.of(config)[1].generate(self._rng(_ROWS, part, number), self._batch_size, config)
        kept = {name: value[self._rows.start : self._rows.stop] for name, value in drawn.items()}
        batch = {**kept, "segment_ids": np.ones_like(kept["tokens"])} if "tokens" in kept else kept
        size = sum(value.nbytes for value in batch.values())
        with self._lock:
            if self._fixed and self._kept_bytes + size <= KEPT_BYTES:
                self._kept[part, number] = {name: value.copy() for name, value in batch.items()}
                self._kept_bytes += size
        return batch


@functools.cache
def row_length(config: TaskConfig) -> int:
    """Returns the length of a task's rows, in tokens."""
    return tasks.of(config)[1].generate(np.random.default_rng(0), 1, config)["tokens"].shape[1]
