"""Handwritten digits read pixel by pixel: S4D, a convolution with 64 states a channel.

    python train.py configs/digits_s4d.py --data.path FOLDER
    python eval.py runs/digits_s4d

What is trained, on what, and with which numbers, says configs/digits_attention.py: only the mixer is another.
Expected: with `--steps 480` (three epochs) accuracy 0.9495 on the held-out 2,000 after about 160 s on two CPU cores
(2026-11-21, jax 0.10.2, one seed); the full 1,600 steps: not measured.
"""

from configs.digits_attention import digits
from memjax.config import TrainConfig
from memjax.mixers import S4DConfig


def get_config() -> TrainConfig:
    """The configuration; every value of it is a flag of train.py."""
    return digits(S4DConfig(), "digits_s4d")
