"""What a run trains on: the kinds of data, as frozen values."""

import dataclasses
from typing import ClassVar, Literal

from memjax.tasks import TaskConfig
from memjax.tasks.mqar import MQARConfig


@dataclasses.dataclass(frozen=True)
class TaskSlice:
    """One ingredient of a task mixture."""

    task: TaskConfig = dataclasses.field(default_factory=MQARConfig)
    """The task and its sizes."""
    examples: int | None = None
    """Size of a fixed set that every epoch uses again, in rows; None draws fresh rows for ever."""


@dataclasses.dataclass(frozen=True)
class TaskData:
    """Rows drawn from benchmark tasks while training; nothing is stored on disk."""

    train: tuple[TaskSlice, ...] = (TaskSlice(),)
    """The slices of the mixture: all fixed or all fresh. Every batch comes from one slice."""
    order: Literal["shuffled", "sequential"] = "shuffled"
    """Order of the batches inside an epoch: mixed anew each epoch, or slice after slice as written."""


@dataclasses.dataclass(frozen=True)
class TextData:
    """Language modelling on local files: .txt (one document), .jsonl and .parquet (one per row), plain, .gz or .zst.

    In a folder, train*, valid* and test* name the splits; `memjax.data.splits` has the rules for the rest.
    """

    path: str = ""
    """File or folder with the text."""
    length: int = 512
    """Length of a packed row, in tokens."""
    tokenizer: str = "bytes"
    """`bytes` (256 byte values and an end of document), or the path of a `tokenizers` JSON file."""
    end_token: str = ""
    """Text of the end-of-document token in the tokenizer file; empty looks for the usual names."""
    text_field: str = "text"
    """Field (.jsonl) or column (.parquet) that holds the text."""
    eval_fraction: float = 0.1
    """Share at the end of a file that evaluates where no file is named for that; 0 < share < 1."""
    cache_dir: str = ""
    """Where the tokenized pieces are kept; empty is `$XDG_CACHE_HOME/memjax`, or `~/.cache/memjax`."""


@dataclasses.dataclass(frozen=True)
class TfdsData:
    """Language modelling on a text dataset of TensorFlow Datasets, read without TensorFlow."""

    name: str = ""
    """Name of the dataset, `name[/config][:version]`."""
    data_dir: str = ""
    """Folder of prepared datasets; empty is TFDS's own default."""
    train_split: str = "train"
    """Split that trains, in TFDS's notation: `train`, `train[:90%]`, ..."""
    eval_split: str = "validation"
    """Split that evaluates."""
    text_field: str = "text"
    """Feature that holds the text."""
    length: int = 512
    """Length of a packed row, in tokens."""
    tokenizer: str = "bytes"
    """`bytes`, or the path of a `tokenizers` JSON file."""
    end_token: str = ""
    """Text of the end-of-document token in the tokenizer file; empty looks for the usual names."""
    cache_dir: str = ""
    """Where the tokenized pieces are kept; empty is `$XDG_CACHE_HOME/memjax`, or `~/.cache/memjax`."""


@dataclasses.dataclass(frozen=True)
class DigitData:
    """Pictures of digits read pixel by pixel, from a local folder with a pair of idx files (the format of MNIST)."""

    features: ClassVar[int] = 1  # grey value of a pixel, 0 to 1
    outputs: ClassVar[int] = 10  # classes

    path: str = ""
    """Folder with `<files>-images-idx3-ubyte.gz` and `<files>-labels-idx1-ubyte.gz`."""
    files: str = "t10k"
    """How the names of the two files begin."""
    size: Literal[28, 14] = 28
    """Side of a picture in pixels; 14 takes the mean of 2 x 2 pixels. A row has size * size tokens."""
    held_out: int = 2000
    """Pictures that evaluate and never train: always the same ones, drawn from the file by a fixed permutation."""


StoredData = TextData | TfdsData
Data = TaskData | TextData | TfdsData | DigitData
