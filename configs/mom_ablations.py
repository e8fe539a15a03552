"""What the parts of mixture-of-memories are worth: the paper's ablations at this library's small size.

    python -m configs.mom_ablations                 all runs, then the table in README.md and a figure
    python -m configs.mom_ablations --setting large on an accelerator
    python train.py configs/mom_ablations.py        a single run: no shared memory
    python eval.py runs/mom_ablations

No shared memory; no balance loss, 0.001 and 0.01 of it; one, two and four memories a token, of four. Task and model are
those of configs/mom_mqar.py, whose runs of 2 of 4 memories are used again.
Expected: README.md has the scores; about an hour on two CPU cores.
"""

import dataclasses
import sys

from benchmarks.frontier import Experiment, Setting, Variant
from configs.mom_mqar import EXPERIMENT as MQAR
from configs.mom_mqar import get_config as of_mixer
from configs.mom_mqar import mixture
from memjax.config import TrainConfig

FIELDS = {
    "MoM-4": {},  # two memories a token, a shared one, balance 0.01
    "MoM-4-no-shared": {"shared": False},
    "MoM-4-balance-0": {"balance_weight": 0.0},
    "MoM-4-balance-0.001": {"balance_weight": 0.001},
    "MoM-4-one-a-token": {"topk": 1},
    "MoM-4-four-a-token": {"topk": 4},
}


def get_config() -> TrainConfig:
    """A single run: the mixture without its shared memory; every value of it is a flag of train.py."""
    return dataclasses.replace(of_mixer(mixture(shared=False)), output_dir="runs/mom_ablations")


def variants(setting: Setting) -> dict[str, Variant]:
    """{name: the run} of each ablation."""
    return {name: Variant(name, of_mixer(mixture(setting, **fields), setting)) for name, fields in FIELDS.items()}


EXPERIMENT = Experiment("mom_ablations", "Mixture-of-memories without one of its parts", MQAR.output_dir, variants)

if __name__ == "__main__":
    from benchmarks import frontier

    sys.exit(frontier.main(sys.argv[1:], EXPERIMENT))
