"""The dataclasses that describe a run: frozen, hashable values, every field explained for `--help`."""

import dataclasses
from typing import Literal

from memjax.data.config import DigitData, TaskData, TextData, TfdsData
from memjax.models import LMConfig, SequenceConfig
from memjax.tasks import TaskConfig, in_split


@dataclasses.dataclass(frozen=True)
class TableOptimizerConfig:
    """The optimiser of memory layers' tables, which moves the rows that an update read and no others.

    Tables are not decayed. The schedule ends where the main one does.
    """

    name: Literal["adam", "adagrad", "sgd", "dense"] = "adam"
    """`adam`, `adagrad` (one slot a row) or `sgd` on the rows read; `dense`: ordinary parameters of the main one."""
    learning_rate: float = 1e-3
    """Peak learning rate of the tables, reached at the end of the warm-up."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """How the learning rate falls after the warm-up; `constant` does not, whatever `final_fraction` is."""
    warmup_steps: int = 100
    """Updates of linear warm-up from zero."""
    final_fraction: float = 0.1
    """Learning rate at the end of the schedule, as a share of the peak."""
    clip: float | None = 1.0
    """Largest norm of the gradient of all tables together, apart from the main one's; None: no clipping."""
    b1: float = 0.9
    """Adam's decay of the mean of gradients, beta_1; once for every update in which a row is read."""
    b2: float = 0.95
    """Adam's decay of the mean of squared gradients. A row read for the first time moves (1-b1)/sqrt(1-b2) rates."""
    eps: float = 1e-8
    """Added to the root of the second moment, or of Adagrad's sum."""


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The optimiser and its learning-rate schedule: linear warm-up, then a cosine."""

    name: Literal["adamw", "muon"] = "adamw"
    """`adamw`, or `muon` for the matrices inside blocks and AdamW for everything else."""
    learning_rate: float = 1e-3
    """Peak learning rate, reached at the end of the warm-up."""
    schedule_steps: int | None = None
    """Update at which the cosine ends; None: the run's `steps`, and it stays so when a resumed run gets more steps."""
    warmup_steps: int = 100
    """Updates of linear warm-up from zero."""
    final_fraction: float = 0.1
    """Learning rate at the end of the schedule, as a share of the peak."""
    weight_decay: float = 0.1
    """Decoupled weight decay, times the learning rate; matrices only (not embeddings, norms, biases, decay rates)."""
    b1: float = 0.9
    """Adam's decay of the mean of gradients, beta_1."""
    b2: float = 0.95
    """Adam's decay of the mean of squared gradients, beta_2."""
    eps: float = 1e-8
    """Adam's epsilon, added to the root of the second moment."""
    momentum: float = 0.95
    """Muon's momentum; unused by `adamw`."""
    clip: float | None = 1.0
    """Largest global norm of the gradient, longer ones are scaled down to it; None: no clipping."""
    table: TableOptimizerConfig = TableOptimizerConfig()
    """How the tables of memory layers are updated."""


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How the devices are laid out: the product of the four axes is the number of devices used.

    One axis may be -1: all devices that the others leave.
    """

    data: int = 1
    """Devices over which the batch is split, parameters copied."""
    fsdp: int = 1
    """Devices over which the batch AND the parameters are split."""
    sequence: int = 1
    """Devices over which time is split; reserved, only 1 works in this version."""
    tensor: int = 1
    """Devices over which the channels of the matrices are split."""


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What is measured every `evaluate_every` updates and at the end of a run."""

    tasks: tuple[TaskConfig, ...] = ()
    """Tasks to score, each with its sizes. Runs on text or pictures are scored on their held-out part by themselves."""
    examples: int = 1000
    """Rows drawn for each task."""
    batch_size: int | None = None
    """Rows in an evaluation batch, over all devices; None: the training batch over `accumulate`."""
    batches: int | None = 16
    """Batches of text read while training; None: the whole evaluation split. The final evaluation reads all of it."""
    prompt: str = ""
    """Text that the sample at the end of a text run continues; empty: a fresh document."""
    sample_steps: int = 200
    """Tokens in that sample; 0: no sample."""
    temperature: float = 0.8
    """Sampling temperature; 0 takes the most likely token."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One experiment: model, data, optimiser and the clockwork of the run."""

    output_dir: str = "runs/experiment"
    """Directory of the run: config.json, metrics.jsonl, checkpoints/, report.json. A run found there is resumed."""
    steps: int = 1000
    """Updates of the parameters, in all."""
    batch_size: int = 64
    """Rows in an update, over all devices and micro-batches."""
    accumulate: int = 1
    """Micro-batches that an update is the sum of; divides `batch_size`. More need less memory, for the same result."""
    seed: int = 0
    """Seed of the initial parameters, the order of the data and everything random in a step."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of activations and matrix products; parameters, states and the loss stay float32."""
    loss_chunk: int | None = 512
    """Positions whose logits exist at once in the loss; None: all of them (more memory)."""
    log_every: int = 20
    """Updates between rows of metrics."""
    checkpoint_every: int = 500
    """Updates between checkpoints; there is always one at the end."""
    evaluate_every: int = 500
    """Updates between evaluations; there is always one at the end."""
    keep_checkpoints: int = 2
    """Newest checkpoints kept, at least 2 so that a damaged one can be passed over."""
    init_from: str | None = None
    """Directory of a finished run whose newest parameters this run starts from."""
    tensorboard: bool = False
    """Also write the metrics for TensorBoard, into `output_dir`/tensorboard."""
    wandb: str | None = None
    """Weights & Biases project that also gets the metrics; None: not used."""
    model: LMConfig | SequenceConfig = LMConfig()
    """The language model, or the model of real-valued rows: a pattern of blocks, repeated."""
    data: TaskData | TextData | TfdsData | DigitData = TaskData()
    """What the model trains on."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """How the parameters are updated."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """What is measured along the way."""
    mesh: MeshConfig = MeshConfig()
    """How the devices are laid out."""


def task_suite(config: TrainConfig) -> tuple[TaskConfig, ...]:
    """The tasks that a run is judged on: `evaluation.tasks`, or else those it was trained on, in their test split."""
    if config.evaluation.tasks or not isinstance(config.data, TaskData):
        return config.evaluation.tasks
    return tuple(dict.fromkeys(in_split(piece.task, "test") for piece in config.data.train))
