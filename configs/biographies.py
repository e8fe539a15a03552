"""A small model learns a population by heart: facts in the weights, after a plateau.

    python train.py configs/biographies.py
    python eval.py runs/biographies

Task: biographies of 400 people, six attributes each (41.5 bits a person), four people in a row of 72 tokens; every next
token is trained. Model: two attention layers of width 64 with MLPs, 133,440 parameters. The log shows
`eval/knowledge/people=400,form=text/loss`, nats per value token of people asked alone: a model that knows how often
each value occurs but nobody is at 3.54 (`memjax.evaluation.plateau_loss`).
Expected: 246 seconds of one CPU core (three compilations and 32 evaluations included), seed 0. The plateau is reached
after some 150 steps and left, by `plateau_end` with its fraction 0.9, at step 300; then 50% of all values are known at
step 500, 83% at 600, 99% at 1000 and 99.5% at 1600: 16,564 of 16,607 bits, 0.12 a parameter. With more people the
plateau is longer: 500 of them, at 1200 steps, left it at step 450 and knew 83% of the values at step 1050.
"""

from memjax.config import EvaluationConfig, OptimizerConfig, TrainConfig
from memjax.data import TaskData, TaskSlice
from memjax.mixers import AttentionConfig
from memjax.models import BlockConfig, LMConfig
from memjax.tasks.biographies import BIOGRAPHY, BiographiesConfig

PEOPLE, VOCABULARY = 400, 512


def get_config() -> TrainConfig:
    """The configuration; every value of it is a flag of train.py."""
    return TrainConfig(
        output_dir="runs/biographies",
        model=LMConfig(
            vocab_size=VOCABULARY,
            width=64,
            blocks=(BlockConfig(mixer=AttentionConfig(heads=2, context=4 * BIOGRAPHY)),),
            repeats=2,
        ),
        data=TaskData(train=(TaskSlice(task(length=4 * BIOGRAPHY)),)),
        steps=1600,
        batch_size=32,
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=50, weight_decay=0.1, final_fraction=0.0),
        log_every=20,
        checkpoint_every=400,
        evaluate_every=50,
        evaluation=EvaluationConfig(tasks=tuple(task(length=count * BIOGRAPHY) for count in (1, 4)), examples=400),
    )


def task(length: int) -> BiographiesConfig:
    """Rows of `length` tokens about the population."""
    return BiographiesConfig(
        vocab_size=VOCABULARY,
        length=length,
        people=PEOPLE,
        templates=4,
        first_names=40,
        middle_names=40,
        last_names=40,
        birth_years=50,
        birth_cities=50,
        universities=50,
        majors=30,
        employers=50,
        work_cities=50,
    )
