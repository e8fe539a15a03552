"""Handwritten digits read pixel by pixel: Attention, which sees every pixel at once.

    python train.py configs/digits_attention.py --data.path FOLDER
    python eval.py runs/digits_attention

FOLDER holds t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz, the 10,000 test pictures of MNIST: 8,000 of them
train, 2,000 are held out, always the same ones. That is not the usual split, so the score is no MNIST test accuracy.
A picture is a row of 14 x 14 pixels, each the mean of 2 x 2, 196 tokens; `--data.size 28` takes all 784. Model: two
blocks of mixer and gated MLP, width 64, the class from the mean of the hidden states. digits_s4d.py, digits_lru.py and
digits_mamba2.py are the same with another mixer.
Expected: accuracy 0.9760 on the held-out 2,000 after the 1,600 steps (ten epochs), 26 minutes on one CPU core that
other work shared (2026-11-21, jax 0.10.2, one seed).
"""

from memjax.config import EvaluationConfig, OptimizerConfig, TrainConfig
from memjax.data import DigitData
from memjax.layers import GatedMLPConfig
from memjax.mixers import AttentionConfig
from memjax.models import BlockConfig, SequenceConfig
from memjax.types import MixerConfig


def get_config() -> TrainConfig:
    """The configuration; every value of it is a flag of train.py."""
    return digits(AttentionConfig(context=28 * 28), "digits_attention")


def digits(mixer: MixerConfig, name: str) -> TrainConfig:
    """The run of any mixer, in runs/<name>."""
    return TrainConfig(
        output_dir=f"runs/{name}",
        model=SequenceConfig(
            outputs=10, pool="mean", width=64, blocks=(BlockConfig(mixer=mixer, mlp=GatedMLPConfig()),), repeats=2
        ),
        data=DigitData(size=14),
        steps=1600,
        batch_size=50,
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=100, weight_decay=0.05, final_fraction=0.0),
        log_every=20,
        checkpoint_every=160,
        evaluate_every=160,
        evaluation=EvaluationConfig(batch_size=100),
    )
