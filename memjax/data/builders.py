"""Every task as a TFDS dataset, `memjax_task/<task>`: importing this page registers the builder.

    import memjax.data.builders
    rows = tfds.data_source("memjax_task/mqar", split="test", data_dir=...)

and for a configuration of one's own

    builder = task_builder(MQARConfig(length=256, pairs=64), data_dir=..., train_examples=20_000)
    tfds.builder_from_directory(builder.data_dir).as_data_source("test")

A task that has splits of its own (a field `split`) gives each split its rows, whatever the configuration says. Rows are
stored as ArrayRecord; TensorFlow is not needed to write or to read them.
"""

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from memjax import tasks
from memjax.tasks import TaskConfig

SEEDS = {"train": 0, "test": 1}
BLOCK = 1000  # rows drawn at a time


@dataclasses.dataclass
class TaskBuilderConfig(tfds.core.BuilderConfig):
    """A task, its sizes, and how many rows of it each split holds."""

    task: TaskConfig = dataclasses.field(default_factory=TaskConfig)
    train_examples: int = 10_000
    test_examples: int = 1000


def _default_configs() -> list[TaskBuilderConfig]:
    modules = tasks.TASKS | tasks.CONTINUOUS
    return [
        TaskBuilderConfig(name=name, description=(module.__doc__ or "").splitlines()[0], task=module.Config())
        for name, module in modules.items()
    ]


class MemjaxTask(tfds.core.GeneratorBasedBuilder):
    """Rows of one benchmark task of memjax: the arrays that its `generate` returns."""

    VERSION = tfds.core.Version("1.1.0")  # 1.1: each split of a task that has splits holds its own
    BUILDER_CONFIGS = _default_configs()

    def __init__(self, *, file_format: Any = None, **kwargs: Any):
        # TFDS's default format cannot be read at random
        super().__init__(file_format=file_format or "array_record", **kwargs)

    def _settings(self) -> TaskBuilderConfig:
        settings = self.builder_config
        assert isinstance(settings, TaskBuilderConfig)
        return settings

    def _generate(self, split: str, seed: tuple[int, ...], n: int) -> dict[str, np.ndarray]:
        task = tasks.in_split(self._settings().task, split)
        return tasks.of(task)[1].generate(np.random.default_rng(seed), n, task)

    def _info(self) -> tfds.core.DatasetInfo:
        row = self._generate("train", (0,), 1)
        features = {name: tfds.features.Tensor(shape=v.shape[1:], dtype=v.dtype.type) for name, v in row.items()}
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{self._settings().description} {self._settings().task}",
            features=tfds.features.FeaturesDict(features),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        config = self._settings()
        counts = {"train": config.train_examples, "test": config.test_examples}
        return {split: self._generate_examples(split, count) for split, count in counts.items()}

    def _generate_examples(self, split: str, count: int) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        for first in range(0, count, BLOCK):
            n = min(BLOCK, count - first)
            arrays = self._generate(split, (SEEDS[split], first // BLOCK), n)
            for i in range(n):
                yield first + i, {name: value[i] for name, value in arrays.items()}


def task_builder(
    config: TaskConfig, *, data_dir: str, train_examples: int = 10_000, test_examples: int = 1000
) -> tfds.core.DatasetBuilder:
    """Returns the prepared builder of `config`'s rows under `data_dir`, writing them if they are not there.

    Its name is made of the task, its axes and a digest of the whole configuration.
    """
    name, module = tasks.of(config)
    axes = "_".join(f"{axis}{value}" for axis, value in module.describe(config).items())
    digest = hashlib.sha256(repr((config, train_examples, test_examples)).encode()).hexdigest()[:8]
    settings = TaskBuilderConfig(
        name=f"{name}_{axes}_{digest}",
        description=(module.__doc__ or "").splitlines()[0],
        task=config,
        train_examples=train_examples,
        test_examples=test_examples,
    )
    builder = MemjaxTask(config=settings, data_dir=data_dir)
    builder.download_and_prepare()
    return builder
