"""The frontier: what each architecture of the family recalls, over the bytes of its state.

    python -m configs.frontier_mqar --workers 2          all runs, then the table in README.md and a figure
    python -m configs.frontier_mqar --seeds 0            some of them, one after the other
    python -m configs.frontier_mqar --setting large      on an accelerator
    python train.py configs/frontier_mqar.py             a single run: Gated DeltaNet
    python eval.py runs/frontier_mqar/*/seed0            the joint report of all runs from a seed

Protocol: MQAR of mixed lengths as in Based (Arora et al., arXiv 2402.18668, figure 2): one layer of the architecture,
no MLP, and one short convolution for everyone, that of its paper, or a layer of BaseConv before it where its paper
has none. The state is varied by the width, that of a sliding window by its window too. `large`: vocabulary 8192,
random filler, trained on 64/4 (five of nine rows), 128/8, 256/16, 256/32 and 256/64 (tokens / pairs), asked also for
64/8, 64/16, 128/32, 512/128 and 1024/256, widths 64, 128 and 256. `small` is reduced to two CPU cores: vocabulary 256,
zero filler, trained on as many rows of 64/4, 64/8, 64/16 and 128/32, asked also for 256/64 (twice the tokens and pairs
of any row seen), widths 32, 64 and 128, 800 steps of 16 rows.

What differs from the published runs, in both: fresh rows instead of 32 passes over 180,000; the best of two learning
rates instead of four, chosen on the first seed and kept for the others; no dropout; Gated DeltaNet with its output
gate; Mamba2 as one layer, not two. In `small` also: Adam's b2 is 0.95 instead of 0.999, gradients are clipped at 1, and
50 steps warm up. A BaseConv layer before those that have a convolution of their own, as published, keeps them from
learning in this time (docs/log.md).
Expected: README.md has the scores. The 60 runs of the first seed took 100 minutes on one core, compilation included,
the 30 of each further seed about half an hour: some 80 minutes for all on two cores, side by side.
"""

import sys

from benchmarks.frontier import Experiment, Setting, Variant
from memjax import mixers
from memjax.config import EvaluationConfig, OptimizerConfig, TrainConfig
from memjax.data import TaskData, TaskSlice
from memjax.models import BlockConfig, LMConfig
from memjax.tasks.mqar import MQARConfig
from memjax.types import MixerConfig

WIDTHS = {"small": (32, 64, 128), "large": (64, 128, 256)}
# (tokens, pairs) of the rows that train, and of those that are asked for
TRAINED = {
    "small": ((64, 4), (64, 8), (64, 16), (128, 32)),
    "large": ((64, 4), (128, 8), (256, 16), (256, 32), (256, 64)),
}
ASKED = {
    "small": ((64, 4), (64, 8), (64, 16), (128, 32), (256, 64)),
    "large": ((64, 4), (64, 8), (64, 16), (128, 32), (256, 64), (512, 128), (1024, 256)),
}
SHARES = {(64, 4): 5}  # of `large`: rows of this kind for one of each other
HEADS = 2
RATES = (1e-2, 3e-3)
NO_CONVOLUTION = (mixers.AttentionConfig, mixers.GLAConfig, mixers.S4DConfig)


def architectures(width: int, longest: int) -> dict[str, tuple[MixerConfig, ...]]:
    """{name: the layers} at a width; `longest`: tokens of the longest row asked for."""
    head = width // HEADS
    delta = mixers.GatedDeltaNetConfig(heads=HEADS, head_dim=head, expand_v=1.0)
    window = lambda tokens: mixers.AttentionConfig(heads=HEADS, context=tokens)
    return {
        "Attention": (window(longest),),
        "SlidingWindow": (window(width // 2),),
        "Mamba2": (mixers.Mamba2Config(head_dim=head, state_size=head, expand=1.0),),
        "GLA": (mixers.GLAConfig(heads=HEADS, expand_k=1.0),),
        "DeltaNet": (mixers.DeltaNetConfig(heads=HEADS, head_dim=head),),
        "GatedDeltaNet": (delta,),
        "MixtureOfMemories": (mixers.MixtureOfMemoriesConfig(heads=HEADS, head_dim=head),),
        "S4D": (mixers.S4DConfig(),),
        "RGLRU": (mixers.RGLRUConfig(),),
        "Hybrid": (delta, window(width // 2)),
    }


def get_config(
    layers: tuple[MixerConfig, ...] | None = None, width: int = 64, rate: float = RATES[0], setting: Setting = "small"
) -> TrainConfig:
    """The run of an architecture's layers, Gated DeltaNet where none are given; every value is a flag of train.py."""
    small, vocabulary = setting == "small", 256 if setting == "small" else 8192
    longest = ASKED[setting][-1][0]
    layers = architectures(width, longest)["GatedDeltaNet"] if layers is None else layers
    task = lambda pair: MQARConfig(vocab_size=vocabulary, length=pair[0], pairs=pair[1], random_non_queries=not small)
    blocks = (mixers.BaseConvConfig(), *layers) if isinstance(layers[0], NO_CONVOLUTION) else layers
    rows = [pair for pair in TRAINED[setting] for _ in range(1 if small else SHARES.get(pair, 1))]
    return TrainConfig(
        output_dir="runs/frontier_mqar/GatedDeltaNet-64-0.01/seed0",
        model=LMConfig(
            vocab_size=vocabulary,
            width=width,
            blocks=tuple(BlockConfig(mixer=block, mlp=None) for block in blocks),
            repeats=1,
        ),
        data=TaskData(train=tuple(TaskSlice(task(pair)) for pair in rows)),
        steps=800 if small else 20_000,
        batch_size=16 if small else 256,
        optimizer=OptimizerConfig(
            learning_rate=rate,
            warmup_steps=50 if small else 0,
            weight_decay=0.1,
            final_fraction=0.0,
            b2=0.95 if small else 0.999,
            clip=1.0 if small else None,
        ),
        log_every=50,
        checkpoint_every=400 if small else 1000,
        evaluate_every=800 if small else 1000,
        evaluation=EvaluationConfig(
            tasks=tuple(task(pair) for pair in ASKED[setting]), examples=200 if small else 1000
        ),
    )


def variants(setting: Setting) -> dict[str, Variant]:
    """Every architecture at every width, from every learning rate."""
    longest = ASKED[setting][-1][0]
    return {
        f"{name}-{width}-{rate:g}": Variant(name, get_config(layers, width, rate, setting), model=f"{name}-{width}")
        for rate in RATES
        for width in WIDTHS[setting]
        for name, layers in architectures(width, longest).items()
    }


EXPERIMENT = Experiment("frontier_mqar", "Recall over bytes of state", "runs/frontier_mqar", variants)

if __name__ == "__main__":
    from benchmarks import frontier

    sys.exit(frontier.main(sys.argv[1:], EXPERIMENT))
