"""Pieces packed into rows with segment ids: for training by grain's first fit, for evaluation in order."""

from typing import Any

import grain
import numpy as np
from grain.experimental import FirstFitPackIterDataset
from jaxtyping import Int32

from memjax.data.ingest import Ingested
from memjax.data.pieces import from_record

Batch = dict[str, Int32[np.ndarray, "B T"]]

PADDING = {"tokens": 0, "targets": -1, "bytes": 0}
BINS = 32  # rows open at a time, at least: the more, the less padding
READ = grain.ReadOptions(num_threads=1, prefetch_buffer_size=64)


def training_batches(
    text: Ingested, *, length: int, rows: int, seed: int, process_index: int, process_count: int
) -> grain.IterDataset:
    """Returns an endless dataset of packed batches of `rows` rows: pieces shuffled anew in every epoch.

    Process p takes every `process_count`-th piece of the shuffled order, from the p-th on.
    """
    source: Any = grain.sources.ArrayRecordDataSource(text.records("train"))
    if len(source) < process_count:
        raise ValueError(f"{len(source)} pieces of text are too few for {process_count} processes")
    shuffled = grain.MapDataset.source(source).seed(seed % 2**32).shuffle()
    mine = shuffled[process_index::process_count].map(from_record).repeat()
    packed = FirstFitPackIterDataset(
        mine.to_iter_dataset(READ),
        length_struct=dict.fromkeys(PADDING, length),
        num_packing_bins=rows * -(-BINS // rows),
        padding_struct=PADDING,
        seed=seed % 2**32,
    )
    return packed.batch(rows, drop_remainder=True).map(_rename)


def _rename(packed: dict[str, np.ndarray]) -> Batch:
    return {name: packed[name] for name in PADDING} | {"segment_ids": packed["tokens_segment_ids"]}


class EvaluationBatches:
    """Random access to the batches of the evaluation split: pieces in their order, the last batch padded with rows.

    The global batches do not depend on the number of processes; each keeps its share of the rows.
    """

    def __init__(self, text: Ingested, *, length: int, batch_size: int, rows: range):
        """Takes the whole batch's size and the `rows` of it that this process keeps."""
        self._source: Any = grain.sources.ArrayRecordDataSource(text.records("evaluation"))
        self._starts = text.evaluation_rows()
        self._length, self._batch_size, self._rows = length, batch_size, rows

    def __len__(self) -> int:
        return -(-(len(self._starts) - 1) // self._batch_size)

    def __getitem__(self, index: int) -> Batch:
        shape = (len(self._rows), self._length)
        batch = {name: np.full(shape, value, np.int32) for name, value in (PADDING | {"segment_ids": 0}).items()}
        for target, row in enumerate(self._rows):
            row += index * self._batch_size
            if row < len(self._starts) - 1:
                self._fill({name: array[target] for name, array in batch.items()}, row)
        return batch

    def _fill(self, out: dict[str, np.ndarray], row: int) -> None:
        position = 0
        for segment, index in enumerate(range(self._starts[row], self._starts[row + 1]), start=1):
            piece = from_record(self._source[index])
            end = position + len(piece["tokens"])
            for name, values in piece.items():
                out[name][position:end] = values
            out["segment_ids"][position:end] = segment
            position = end
