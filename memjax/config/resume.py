"""What may change when a run goes on from its checkpoints, and how the two configurations become one.

`steps`, cadences, the mesh, where the run lies, loggers and what is evaluated may change. The length of the
learning-rate schedule is a field of its own that stays as it was saved. Anything else would make the run something
that no single configuration describes, and is refused.
"""

import dataclasses

from memjax.config.experiment import TrainConfig
from memjax.config.fields import ConfigError, changed, flag

MAY_CHANGE = (
    "output_dir",
    "steps",
    "log_every",
    "checkpoint_every",
    "evaluate_every",
    "keep_checkpoints",
    "tensorboard",
    "wandb",
    "evaluation",
    "mesh",
)


def resolve(config: TrainConfig) -> TrainConfig:
    """The configuration of a fresh run as it is saved: the schedule's length is a number from here on."""
    if config.optimizer.schedule_steps is not None:
        return config
    return dataclasses.replace(
        config,
        optimizer=dataclasses.replace(config.optimizer, schedule_steps=config.steps),
    )


def resume_conflicts(saved: TrainConfig, asked: TrainConfig) -> list[str]:
    """What `asked` wants changed that a resumed run cannot change: "--optimizer.learning-rate: 0.01 -> 0.02"."""
    saved, length = resolve(saved), asked.optimizer.schedule_steps
    if length is None:
        length = saved.optimizer.schedule_steps
    asked = dataclasses.replace(asked, optimizer=dataclasses.replace(asked.optimizer, schedule_steps=length))
    return [f"{flag(name)}: {before} -> {after}" for name, before, after in changed(_merge(saved, asked), asked)]


def resume(saved: TrainConfig, asked: TrainConfig) -> TrainConfig:
    """The configuration with which a run goes on: what may change from `asked`, everything else from `saved`.

    Raises ConfigError with all differences, each with its flag, if anything else differs.
    """
    conflicts = resume_conflicts(saved, asked)
    if conflicts:
        raise ConfigError(
            f"{asked.output_dir} holds a run with another configuration ({'; '.join(conflicts)}): "
            "change these back, or choose another --output-dir"
        )
    return _merge(resolve(saved), asked)


def _merge(saved: TrainConfig, asked: TrainConfig) -> TrainConfig:
    return dataclasses.replace(saved, **{name: getattr(asked, name) for name in MAY_CHANGE})
