"""Mixture-of-memories against one larger memory, at equal bytes of state.

    python -m configs.mom_mqar                      all runs, then the table in README.md and a figure
    python -m configs.mom_mqar --seeds 0            some of them; a second command may run beside it
    python -m configs.mom_mqar --setting large      on an accelerator
    python train.py configs/mom_mqar.py             a single run: 2 of 4 memories and a shared one
    python eval.py runs/mom_mqar/*/seed0            the joint report

Task: MQAR with many pairs, 128 tokens with 32 pairs, 256 with 64, and 128 with 16 pairs of which 16 updates reassign
keys ("128/16+16"); trained on 128 tokens with 4 to 32 pairs and with reassigned keys, so 256 is twice the length and
twice the pairs of any row seen. Models: one layer (`large`: two) of the mixer alone. A mixture
has 2, 4 or 8 memories, two a token and a shared one; a Gated DeltaNet has the smallest heads whose state, convolutions
included, reaches that of a mixture. `GatedDeltaNet-1` has the heads of a single memory.
Expected: README.md has the scores; two commands side by side end within an hour on two CPU cores.
"""

import dataclasses
import functools
import sys

import jax
from flax import nnx

from benchmarks.frontier import Experiment, Setting, Variant
from memjax.config import EvaluationConfig, OptimizerConfig, TrainConfig
from memjax.data import TaskData, TaskSlice
from memjax.mixers import GatedDeltaNetConfig, MixtureOfMemoriesConfig
from memjax.models import BlockConfig, LMConfig
from memjax.tasks.mqar import MQARConfig
from memjax.types import MixerConfig

WIDTH = {"small": 64, "large": 128}
HEADS = {"small": (2, 32), "large": (2, 64)}  # heads, and channels of a head of each memory
MEMORIES = (2, 4, 8)
# Length, pairs and updates of the rows that are asked for, and of those that train; without the easy ones models of
# this size are at chance after 240 steps.
ASKED = ((128, 32, 0), (256, 64, 0), (128, 16, 16))
TRAINED = ((128, 4, 0), (128, 8, 0), (128, 16, 0), (128, 32, 0), (128, 16, 16))


def get_config(mixer: MixerConfig | None = None, setting: Setting = "small") -> TrainConfig:
    """The run of one mixer, 2 of 4 memories where none is given; every value of it is a flag of train.py."""
    small = setting == "small"
    vocabulary = 256 if small else 8192
    asked, trained = ([_task(vocabulary, *each, random=not small) for each in found] for found in (ASKED, TRAINED))
    return TrainConfig(
        output_dir="runs/mom_mqar/MoM-4/seed0",
        model=LMConfig(
            vocab_size=vocabulary,
            width=WIDTH[setting],
            blocks=(BlockConfig(mixer=mixer or mixture(setting), mlp=None),),
            repeats=1 if small else 2,
        ),
        data=TaskData(train=tuple(TaskSlice(task) for task in trained)),
        steps=600 if small else 10_000,
        batch_size=16 if small else 256,
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=50, weight_decay=0.1, final_fraction=0.0),
        log_every=50,
        checkpoint_every=300 if small else 1000,
        evaluate_every=600 if small else 1000,
        evaluation=EvaluationConfig(tasks=tuple(asked), examples=500 if small else 1000),
    )


def _task(vocabulary: int, length: int, pairs: int, updates: int, *, random: bool) -> MQARConfig:
    return MQARConfig(vocab_size=vocabulary, length=length, pairs=pairs, updates=updates, random_non_queries=random)


def mixture(setting: Setting = "small", memories: int = 4, **fields) -> MixtureOfMemoriesConfig:
    """A mixture whose memories have the sizes of the setting."""
    heads, size = HEADS[setting]
    return MixtureOfMemoriesConfig(memories=memories, heads=heads, head_dim=size, expand_v=1.0, **fields)


def one_memory(setting: Setting, wanted: int) -> GatedDeltaNetConfig:
    """The Gated DeltaNet with the smallest heads, from those of a mixture's memory on, whose state has at least
    `wanted` bytes: float32 matrices K x K, and what convolutions of W tokens keep of q, k and v."""
    heads, size = HEADS[setting]
    found = GatedDeltaNetConfig(heads=heads, head_dim=size, expand_v=1.0)
    while 4 * heads * size * (size + 3 * (found.conv_width - 1)) < wanted:
        size += 1
    return dataclasses.replace(found, head_dim=size)


@functools.cache
def state_bytes(mixer: MixerConfig, setting: Setting) -> int:
    """Bytes of a layer's state for one sequence."""
    state = jax.eval_shape(lambda: mixer.make(WIDTH[setting], rngs=nnx.Rngs(0)).init_state(1))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def variants(setting: Setting) -> dict[str, Variant]:
    """One memory of growing size beside mixtures of growing number."""
    found = {"GatedDeltaNet-1": Variant("Gated DeltaNet", get_config(one_memory(setting, 0), setting))}
    for count in MEMORIES:
        mom = mixture(setting, count)
        one = one_memory(setting, state_bytes(mom, setting))
        found[f"MoM-{count}"] = Variant("MoM, 2 memories a token and a shared one", get_config(mom, setting))
        found[f"GatedDeltaNet-as-MoM-{count}"] = Variant("Gated DeltaNet", get_config(one, setting))
    return found


EXPERIMENT = Experiment(
    "mom_mqar", "Mixture-of-memories and one memory: recall over bytes of state", "runs/mom_mqar", variants
)

if __name__ == "__main__":
    from benchmarks import frontier

    sys.exit(frontier.main(sys.argv[1:], EXPERIMENT))
