"""Byte-level language modelling with a Gated DeltaNet on text of your own.

    python train.py configs/text_gated_delta_net.py --data.path FILE_OR_FOLDER
    python eval.py runs/text_gated_delta_net --prompt "Once upon a time"

FILE_OR_FOLDER holds .txt, .jsonl or .parquet (plain, .gz or .zst); in a folder train*, valid* and test* name the
splits, and of a single file the last tenth evaluates. Model: four blocks of Gated DeltaNet and gated MLP, width 128.
Expected: on tiny Shakespeare 2.6 bits per byte or better on the last tenth, within 15 minutes on two CPU cores (2.56
after 200 steps, 2.27 after all 500).
"""

from memjax.config import EvaluationConfig, OptimizerConfig, TrainConfig
from memjax.data import TextData
from memjax.layers import GatedMLPConfig
from memjax.mixers import GatedDeltaNetConfig
from memjax.models import BlockConfig, LMConfig


def get_config() -> TrainConfig:
    """The configuration; every value of it is a flag of train.py."""
    return TrainConfig(
        output_dir="runs/text_gated_delta_net",
        model=LMConfig(
            vocab_size=257,  # the bytes, and the end of a document
            width=128,
            blocks=(BlockConfig(mixer=GatedDeltaNetConfig(heads=2, head_dim=48), mlp=GatedMLPConfig()),),
            repeats=4,
        ),
        data=TextData(length=256),
        steps=500,
        batch_size=16,
        optimizer=OptimizerConfig(learning_rate=4e-3, warmup_steps=50, weight_decay=0.1),
        log_every=20,
        checkpoint_every=100,
        evaluate_every=100,
        evaluation=EvaluationConfig(batches=32, sample_steps=300, temperature=0.7),
    )
