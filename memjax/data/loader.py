"""The loaders: any kind of data in, batches of fixed shape out, with exact resume."""

import grain

from memjax import tasks
from memjax.data import digits, files
from memjax.data.config import Data, DigitData, TaskData, TaskSlice, TextData
from memjax.data.ingest import ingest
from memjax.data.packing import EvaluationBatches, training_batches
from memjax.data.synthetic import TaskBatches, row_length
from memjax.data.tokenizers import load_tokenizer
from memjax.tasks import ContinuousConfig

READ = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)


def train_loader(
    data: Data, *, batch_size: int, seed: int, process_index: int = 0, process_count: int = 1
) -> grain.IterDataset:
    """Returns an endless dataset of training batches.

    `iter(loader)` starts at the beginning; the iterator's `get_state()` is JSON-able and `set_state(state)` resumes
    exactly. For tasks the global batches are a pure function of (seed, batch index), whatever the number of processes.

    Args:
        data: what to train on.
        batch_size: rows of the whole batch, over all processes.
        seed: of the rows and of their order, >= 0.
        process_index: this process.
        process_count: number of processes; each gets batch_size // process_count rows.

    Returns:
        Batches of int32 [local rows, T]: "tokens", "targets" (-1 is not scored), "segment_ids" (0 is padding); text
        also has "bytes", the bytes of text that each target stands for. Real-valued rows are float32 "inputs"
        [local rows, T, F] with "outputs" [local rows, T, O] and "mask" [local rows, T], or with "targets", a class for
        each row, int32 [local rows, 1].

    Raises:
        FileNotFoundError, ValueError: one line that says what and where.
    """
    _validate(data)
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    rows = _local_rows(batch_size, process_index, process_count)
    if isinstance(data, TaskData):
        source = TaskBatches(data, batch_size=batch_size, seed=seed, rows=rows)
        return grain.MapDataset.source(source).to_iter_dataset(READ)
    if isinstance(data, DigitData):
        source = digits.DigitBatches(data, batch_size=batch_size, seed=seed, rows=rows)
        return grain.MapDataset.source(source).to_iter_dataset(READ)
    return training_batches(
        ingest(data),
        length=data.length,
        rows=len(rows),
        seed=seed,
        process_index=process_index,
        process_count=process_count,
    )


def eval_loader(data: Data, *, batch_size: int, process_index: int = 0, process_count: int = 1) -> grain.IterDataset:
    """Returns the evaluation split as batches: in order, every byte (or picture) once, the last batch filled up.

    Shapes, names and errors are those of `train_loader`. Every process gets the same number of batches.
    """
    _validate(data)
    if isinstance(data, TaskData):
        raise ValueError("tasks have no evaluation split: draw rows with the task's generate")
    rows = _local_rows(batch_size, process_index, process_count)
    if isinstance(data, DigitData):
        source = digits.HeldOutBatches(data, batch_size=batch_size, rows=rows)
        return grain.MapDataset.source(source).to_iter_dataset(READ)
    source = EvaluationBatches(ingest(data), length=data.length, batch_size=batch_size, rows=rows)
    return grain.MapDataset.source(source).to_iter_dataset(READ)


def check(data: Data, vocab_size: int) -> None:
    """Raises ValueError or FileNotFoundError, in one line, if `data` cannot train a model of `vocab_size` tokens.

    Real-valued data need no token at all; whether the model takes them is seen by `memjax.config.validate`.
    """
    _validate(data)
    if isinstance(data, DigitData):
        return
    if isinstance(data, TaskData):
        needs = [(f"data.train.{i}: {tasks.of(s.task)[0]}", s.task.vocab_size) for i, s in enumerate(data.train)]
    else:
        if isinstance(data, TextData):
            files.splits(data)
        needs = [(f"tokenizer {data.tokenizer}", load_tokenizer(data).vocab_size)]
    for what, needed in needs:
        if needed > vocab_size:
            raise ValueError(f"{what} needs a vocabulary of {needed} tokens, the model has vocab_size {vocab_size}")


def scored(data: Data) -> dict[int, int] | None:
    """Returns, for each row length of a task mixture, the most positions that a row scores; None (all) for others."""
    if not isinstance(data, TaskData) or any(isinstance(part.task, ContinuousConfig) for part in data.train):
        return None
    bounds: dict[int, int] = {}
    for part in data.train:
        length = row_length(part.task)
        bounds[length] = max(bounds.get(length, 0), tasks.of(part.task)[1].scored(part.task))
    return bounds


def describe(data: Data) -> str:
    """Returns one line that says what trains and what evaluates."""
    _validate(data)
    if isinstance(data, TextData):
        return files.splits(data).note
    if isinstance(data, DigitData):
        train, held_out = digits.split(data)
        return f"training on {len(train):,} pictures of {data.path}, evaluating on {len(held_out):,} others of it"
    if isinstance(data, TaskData):
        return "training on " + ", ".join(_slice(part) for part in data.train)
    return f"training on {data.name} {data.train_split}, evaluating on {data.name} {data.eval_split}"


def _slice(part: TaskSlice) -> str:
    name, module = tasks.of(part.task)
    axes = ", ".join(f"{axis} {value}" for axis, value in module.describe(part.task).items())
    return f"{name} ({axes}; {'fresh rows' if part.examples is None else f'{part.examples} rows'})"


def _local_rows(batch_size: int, process_index: int, process_count: int) -> range:
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(f"batch_size {batch_size} must be a positive multiple of the {process_count} processes")
    local = batch_size // process_count
    return range(process_index * local, (process_index + 1) * local)


def _validate(data: Data) -> None:
    if isinstance(data, TaskData):
        if not data.train:
            raise ValueError("data.train is empty: give at least one slice")
        for number, part in enumerate(data.train):
            tasks.of(part.task)
            if part.examples is not None and part.examples < 1:
                raise ValueError(f"data.train.{number}: examples must be positive or None, got {part.examples}")
        if len({isinstance(part.task, ContinuousConfig) for part in data.train}) > 1:
            raise ValueError("data.train: all slices hold tokens, or all hold real-valued rows")
        if data.order not in ("shuffled", "sequential"):
            raise ValueError(f"data.order must be shuffled or sequential, got {data.order!r}")
        return
    if isinstance(data, DigitData):
        digits.check(data)
        return
    if data.length < 1:
        raise ValueError(f"data.length must be positive, got {data.length}")
    if isinstance(data, TextData) and not 0 < data.eval_fraction < 1:
        raise ValueError(f"data.eval_fraction must lie between 0 and 1, got {data.eval_fraction}")
