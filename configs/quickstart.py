"""A small Gated DeltaNet learns to recall: the first thing to run.

    python train.py configs/quickstart.py
    python eval.py runs/quickstart

Task: multi-query associative recall, 64 tokens, 4 key-value pairs, vocabulary 256, zero filler (random filler would
collide with the keys of so small a vocabulary). Model: two Gated DeltaNet layers of width 64, no MLP.
Expected: accuracy 0.99 or better at 4 pairs (0.999, 0.997 and 0.999 for seeds 0, 1 and 2) within 5 minutes on two CPU
cores: 600 steps, about 200 seconds of one core's time with the compilation. The report
shows what was never trained: 2, 8 and 16 pairs, and rows up to 256 tokens.
"""

from memjax.config import EvaluationConfig, OptimizerConfig, TrainConfig
from memjax.data import TaskData, TaskSlice
from memjax.mixers import GatedDeltaNetConfig
from memjax.models import BlockConfig, LMConfig
from memjax.tasks import mqar

VOCABULARY = 256


def get_config() -> TrainConfig:
    """The configuration; every value of it is a flag of train.py."""
    return TrainConfig(
        output_dir="runs/quickstart",
        model=LMConfig(
            vocab_size=VOCABULARY,
            width=64,
            blocks=(BlockConfig(mixer=GatedDeltaNetConfig(heads=2, head_dim=32, expand_v=1.0), mlp=None),),
            repeats=2,
        ),
        data=TaskData(train=(TaskSlice(task(pairs=4, length=64)),)),
        steps=600,
        batch_size=64,
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=50, weight_decay=0.1, final_fraction=0.0),
        log_every=20,
        checkpoint_every=100,
        evaluate_every=300,
        evaluation=EvaluationConfig(
            tasks=(
                *(task(pairs=pairs, length=64) for pairs in (2, 4, 8, 16)),
                *(task(pairs=4, length=length) for length in (128, 256)),
            ),
            examples=1000,
        ),
    )


def task(pairs: int, length: int) -> mqar.MQARConfig:
    """Rows of `length` tokens with `pairs` key-value pairs, zeros between the queries."""
    return mqar.MQARConfig(vocab_size=VOCABULARY, length=length, pairs=pairs, random_non_queries=False)
