"""Handwritten digits read pixel by pixel: S4D, a convolution with 64 states a channel.

    python train.py configs/digits_s4d.py --data.path FOLDER
    python eval.py runs/digits_s4d

What is trained, on what, and with which numbers, says configs/digits_attention.py: only the mixer is another.
Expected: accuracy 0.9830 on the held-out 2,000 after the 1,600 steps, 0.937 to 0.950 after 480 of them (two runs); 33
minutes on one CPU core that other work shared, 160 s for 480 steps on two quiet ones (2026-11-21, jax 0.10.2).
"""

from configs.digits_attention import digits
from memjax.config import TrainConfig
from memjax.mixers import S4DConfig


def get_config() -> TrainConfig:
    """The configuration; every value of it is a flag of train.py."""
    return digits(S4DConfig(), "digits_s4d")
