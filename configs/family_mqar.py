"""Every mixer of the library on one recall task, at equal width, depth and steps.

    python -m configs.family_mqar                       all of them, then the table in README.md
    python -m configs.family_mqar --only GatedDeltaNet  some of them
    python -m configs.family_mqar --setting large       on an accelerator
    python train.py configs/family_mqar.py              a single run: Attention, the ceiling
    python eval.py runs/family_mqar/*                   the joint report, a curve a mixer

Task `small`: multi-query associative recall, 64 tokens, 4 key-value pairs, vocabulary 256, zero filler (random filler
would collide with the keys of so small a vocabulary); `large`: 64/4, 64/8 and 128/16 in turn, vocabulary 8192, random
filler. Model: two layers of the mixer at its defaults, no MLP. Each run is an ordinary one, in
runs/family_mqar/<Mixer> (`large`: runs/family_mqar_large/<Mixer>): what is done is not done again, what was stopped
goes on; remove the directory of a mixer to train it anew.
Expected: `small` at most 5 minutes a mixer on two CPU cores, `--minutes` sets the limit, and a mixer that needs more is
listed as unfinished with its accuracy so far; the scores are in README.md. `large`: not measured.
"""

import sys
from typing import Literal

from memjax.config import EvaluationConfig, OptimizerConfig, TrainConfig
from memjax.data import TaskData, TaskSlice
from memjax.mixers import AttentionConfig
from memjax.models import BlockConfig, LMConfig
from memjax.tasks.mqar import MQARConfig
from memjax.types import MixerConfig

Setting = Literal["small", "large"]

LEARNING_RATE = 1e-2
# A mixer's own peak learning rate, shown in the table. At 1e-2 Attention stays at 0.25, any of the row's four values;
# at 3e-3 it leaves that plateau after some 300 steps.
OWN_LEARNING_RATE: dict[str, float] = {"AttentionConfig": 3e-3}

# Task settings (length, pairs): those that train, and those that are only asked for at the end.
TRAINED = {"small": ((64, 4),), "large": ((64, 4), (64, 8), (128, 16))}
ASKED = {"small": ((64, 8),), "large": ()}


def get_config(mixer: MixerConfig | None = None, setting: Setting = "small") -> TrainConfig:
    """The run of one mixer, Attention where none is given; every value of it is a flag of train.py."""
    small, kind = setting == "small", type(mixer or AttentionConfig()).__name__
    if mixer is None or mixer == AttentionConfig():  # a cache of the longest row, not of 2048 tokens
        mixer = AttentionConfig(context=max(length for length, _ in TRAINED[setting] + ASKED[setting]))
    vocabulary = 256 if small else 8192
    tasks = {
        pair: MQARConfig(vocab_size=vocabulary, length=pair[0], pairs=pair[1], random_non_queries=not small)
        for pair in TRAINED[setting] + ASKED[setting]
    }
    return TrainConfig(
        output_dir=f"runs/family_mqar{'' if small else '_large'}/{kind.removesuffix('Config')}",
        model=LMConfig(
            vocab_size=vocabulary,
            width=64 if small else 128,
            blocks=(BlockConfig(mixer=mixer, mlp=None),),
            repeats=2,
        ),
        data=TaskData(train=tuple(TaskSlice(tasks[pair]) for pair in TRAINED[setting])),
        steps=600 if small else 6000,
        batch_size=64 if small else 256,
        optimizer=OptimizerConfig(
            learning_rate=OWN_LEARNING_RATE.get(kind, LEARNING_RATE),
            warmup_steps=50 if small else 300,
            weight_decay=0.1,
            final_fraction=0.0,
        ),
        log_every=20,
        checkpoint_every=200 if small else 1000,
        evaluate_every=200 if small else 1000,
        evaluation=EvaluationConfig(tasks=tuple(tasks.values()), examples=1000),
    )


if __name__ == "__main__":
    from benchmarks import family

    sys.exit(family.main(sys.argv[1:], get_config))
