"""A needle at every depth of texts of several lengths: the rows of the heat map of long-context evaluations.

A run on bytes, trained on rows of T tokens, is asked for the needles of RULER (`memjax.tasks.needles`) in T, 2T and 4T
bytes, at least `SHORTEST`, at `DEPTHS` from the beginning to the end of the haystack: the variants that the run itself
asks for, or the first.
"""

import dataclasses
from typing import Any

from memjax.config import TrainConfig
from memjax.data import StoredData
from memjax.evaluation.decoding import trained_length
from memjax.evaluation.evaluators import measure_task, task_suite
from memjax.tasks.needles import NeedlesConfig

NEEDLE_MAP = "needle_map"  # the name, among tasks, of what follows
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
FACTORS = (1, 2, 4)  # lengths over T
SHORTEST = 1024  # every variant fits
EXAMPLES = 100  # rows of a cell at most


def reads_bytes(config: TrainConfig) -> bool:
    """Whether a run's tokens are bytes, as needles are: it was trained on text in bytes, or asks for needles itself."""
    on_bytes = isinstance(config.data, StoredData) and config.data.tokenizer == "bytes"
    return on_bytes or bool(_own(config))


def needle_map(model: Any, config: TrainConfig) -> list[dict[str, Any]]:
    """A row of a report for each variant, length and depth; see `memjax.evaluation.recall`.

    Args:
        model: the model; its tokens are bytes.
        config: the run's configuration; of each cell at most `EXAMPLES` rows are drawn.
    """
    few = min(EXAMPLES, config.evaluation.examples)
    config = dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, examples=few))
    return [measure_task(model, task, config) for task in cells(config)]


def cells(config: TrainConfig) -> list[NeedlesConfig]:
    """The settings of the map: each variant once, whatever its lengths and depths."""
    own = _own(config) or [NeedlesConfig(vocab_size=config.model.vocab_size)]
    shortest = max(SHORTEST, trained_length(config))
    return [
        dataclasses.replace(task, length=factor * shortest, depth=depth)
        for task in {(task.variant, task.haystack): task for task in own}.values()
        for factor in FACTORS
        for depth in DEPTHS
    ]


def _own(config: TrainConfig) -> list[NeedlesConfig]:
    return [task for task in task_suite(config) if isinstance(task, NeedlesConfig)]
