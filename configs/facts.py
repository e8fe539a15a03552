"""How well memory layers learn facts: a dense model, Memory+, PEER and UltraMem at equal active FLOPs, by biographies.

    python -m configs.facts                      all runs, then the table in README.md and a figure
    python -m configs.facts --seeds 0            some of them; a second command may run beside it
    python -m configs.facts --setting large      on an accelerator
    python train.py configs/facts.py             a single run: Memory+
    python eval.py runs/facts/*/seed0            the joint report

Task: biographies (configs/biographies.py) of 500 people with equal frequencies, and for the dense model and Memory+
also with frequencies that fall as 1/rank: does the plateau shorten, as Zucchet et al. (arXiv 2503.21676) say of uneven
data? Models: attention layers whose MLP shrinks by as many FLOPs as the memory layer beside it costs, so that a token
costs the same in all; the layers of a model share one table, of as many numbers in all of them. Three seeds.
Expected: README.md has the scores; two commands side by side end within an hour on two CPU cores.
"""

import dataclasses
import sys

from benchmarks import facts
from benchmarks.frontier import Experiment, Setting, Variant
from configs.biographies import get_config as biographies
from memjax.config import EvaluationConfig, OptimizerConfig, TableOptimizerConfig, TrainConfig
from memjax.data import TaskData, TaskSlice
from memjax.layers import GatedMLPConfig
from memjax.mixers import MemoryPlusConfig, PeerConfig, UltraMemConfig
from memjax.models import BlockConfig, LMConfig
from memjax.tasks.biographies import BIOGRAPHY, BiographiesConfig
from memjax.training.skeleton import Skeleton
from memjax.types import MixerConfig

HIDDEN = {"small": 256, "large": 2048}  # of the dense model's MLPs


def memories(setting: Setting) -> dict[str, MixerConfig]:
    """{name: the memory layer beside each MLP}; their tables have 64K numbers each (`large`: 64M)."""
    small = setting == "small"
    share = {"share": "facts", "topk": 16 if small else 32}
    return {
        "Memory+": MemoryPlusConfig(heads=2, subkeys=32 if small else 354, **share),
        "PEER": PeerConfig(heads=2, subkeys=23 if small else 250, **share),
        "UltraMem": UltraMemConfig(subkeys=64 if small else 708, expansion=2, init_layers=2 if small else 12, **share),
    }


def get_config(memory: MixerConfig | None = None, power: float = 0.0, setting: Setting = "small") -> TrainConfig:
    """A run of one memory layer, Memory+ where none is given; every value of it is a flag of train.py.

    Beside people alone in a row, as all runs of the experiment are, it is asked about people in rows like the trained.
    """
    run = _run(memories(setting)["Memory+"] if memory is None else memory, power, setting)
    tasks = (*run.evaluation.tasks, dataclasses.replace(facts.population(run), power=0.0))
    return dataclasses.replace(run, evaluation=dataclasses.replace(run.evaluation, tasks=tasks))


def _run(memory: MixerConfig | None, power: float, setting: Setting) -> TrainConfig:
    small = setting == "small"
    base = biographies()
    population = _population(base, 500 if small else 100_000, power, large=not small)
    mixer = dataclasses.replace(base.model.blocks[0].mixer, **({} if small else {"heads": 8}))
    model = dataclasses.replace(
        base.model,
        vocab_size=base.model.vocab_size if small else 8192,
        width=64 if small else 512,
        repeats=2 if small else 12,
        blocks=(BlockConfig(mixer, GatedMLPConfig(hidden=HIDDEN[setting])),),
    )
    rate = 1e-2 if small else 1e-3
    schedule = {"learning_rate": rate, "warmup_steps": 50 if small else 1000, "final_fraction": 0.0}
    return TrainConfig(
        output_dir="runs/facts/Memory+/seed0",
        model=model if memory is None else matched(model, memory, population.length),
        data=TaskData(train=(TaskSlice(population),)),
        steps=1200 if small else 50_000,
        batch_size=32 if small else 256,
        compute_dtype="float32" if small else "bfloat16",
        optimizer=OptimizerConfig(weight_decay=0.1, table=TableOptimizerConfig(**schedule), **schedule),
        log_every=20,
        checkpoint_every=400 if small else 2000,
        evaluate_every=50 if small else 1000,
        evaluation=EvaluationConfig(
            tasks=(dataclasses.replace(population, length=BIOGRAPHY, power=0.0),), examples=500 if small else 10_000
        ),
    )


def _population(base: TrainConfig, people: int, power: float, *, large: bool) -> BiographiesConfig:
    """The task of configs/biographies.py with other people; `large`: the value pools of the papers."""
    found = facts.population(base)
    if large:
        found = BiographiesConfig(length=28 * BIOGRAPHY)
    return dataclasses.replace(found, people=people, power=power)


def matched(model: LMConfig, memory: MixerConfig, length: int) -> LMConfig:
    """`model` with the memory layer beside its MLP, and the MLP's hidden channels cut by what the memory costs.

    Raises ValueError where the memory alone costs more than the MLP.
    """
    block = model.blocks[0]
    flops = lambda config: Skeleton.of(config).flops_per_token(length)
    put = lambda mlp, memory: dataclasses.replace(model, blocks=(dataclasses.replace(block, mlp=mlp, memory=memory),))
    budget = flops(model) - flops(put(None, memory))
    hidden = round(budget / (6 * model.width * model.repeats))
    if hidden < 1:
        raise ValueError(f"{type(memory).__name__} costs {-budget:,.0f} FLOPs a token more than the dense model")
    return put(GatedMLPConfig(hidden=hidden), memory)


def variants(setting: Setting) -> dict[str, Variant]:
    """Every model on people of equal frequency; the dense one and Memory+ also with a power law."""
    models: dict[str, MixerConfig | None] = {"Dense": None, **memories(setting)}
    found = {name: Variant(name, _run(memory, 0.0, setting)) for name, memory in models.items()}
    for name in ("Dense", "Memory+"):
        found[f"{name}-power-law"] = Variant(name, _run(models[name], 1.0, setting))
    return found


EXPERIMENT = Experiment(
    "facts", "Facts learned by heart, at equal FLOPs a token", "runs/facts", variants, look=facts.LOOK
)

if __name__ == "__main__":
    from benchmarks import frontier

    sys.exit(frontier.main(sys.argv[1:], EXPERIMENT))
