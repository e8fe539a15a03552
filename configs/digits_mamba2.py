"""Handwritten digits read pixel by pixel: Mamba2, a selective state space.

    python train.py configs/digits_mamba2.py --data.path FOLDER
    python eval.py runs/digits_mamba2

What is trained, on what, and with which numbers, says configs/digits_attention.py: only the mixer is another.
Expected: accuracy 0.9630 on the held-out 2,000 after the 1,600 steps, 38 minutes on one CPU core that other work shared
(7,900 pixels a second; 2026-11-21, jax 0.10.2, one seed).
"""

from configs.digits_attention import digits
from memjax.config import TrainConfig
from memjax.mixers import Mamba2Config


def get_config() -> TrainConfig:
    """The configuration; every value of it is a flag of train.py."""
    return digits(Mamba2Config(head_dim=32, state_size=64), "digits_mamba2")
