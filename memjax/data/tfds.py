"""Datasets of TensorFlow Datasets, read as random-access sources; TensorFlow is not needed."""

from typing import Any

import tensorflow_datasets as tfds

from memjax.data.config import TfdsData


def open_split(data: TfdsData, split: str) -> tuple[Any, list[Any]]:
    """Returns a split as a random-access source of rows, and what identifies its content.

    A dataset that is not prepared yet in `data.data_dir` is prepared (downloaded) first, as ArrayRecord.

    Raises:
        ValueError: no such dataset, split or text feature, in one line.
    """
    if not data.name:
        raise ValueError("data.name is empty: give the name of a tfds dataset, e.g. tiny_shakespeare")
    directory = data.data_dir or None
    try:
        builder = _builder(data.name, directory)
        builder.download_and_prepare()
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(f"data.name: tfds knows no dataset {data.name!r} in {directory or 'its folder'}") from error
    features = list(builder.info.features or ())
    if data.text_field not in features:
        raise ValueError(f"tfds {data.name}: no feature {data.text_field!r}; there are: {', '.join(features)}")
    base = split.split("[")[0]
    if base not in builder.info.splits:
        raise ValueError(f"tfds {data.name}: no split {base!r}; there are: {', '.join(builder.info.splits)}")
    try:
        rows = builder.as_data_source(split=split)
    except (ValueError, NotImplementedError) as error:  # a file format without random access, or a bad slice
        raise ValueError(f"tfds {data.name} split {split}: {' '.join(str(error).split())}") from error
    size = builder.info.splits[base]
    return rows, [builder.info.full_name, split, len(rows), size.num_bytes, [str(n) for n in size.shard_lengths]]


def _builder(name: str, directory: str | None) -> Any:
    """A dataset on disk keeps the format that it has; a new one is prepared as ArrayRecord."""
    builder = tfds.builder(name, data_dir=directory)
    return builder if builder.is_prepared() else tfds.builder(name, data_dir=directory, file_format="array_record")
