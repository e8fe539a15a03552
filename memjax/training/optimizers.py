"""AdamW and Muon, with weight decay and the choice of optimiser decided by parameter path.

AdamW: Loshchilov and Hutter, 2019 (https://arxiv.org/abs/1711.05101). Muon: Jordan, 2024
(https://github.com/KellerJordan/Muon), with the RMS matching of Liu et al., 2025 (https://arxiv.org/abs/2502.16982),
so that learning rate and weight decay mean the same under both.

What a parameter gets is read off the table `TREATMENTS`, first match wins:

- Projections are decayed and, under Muon, orthogonalised. They are stored as [repeats, in, out]; only the last two axes
  are the matrix, every axis before them is a batch of matrices.
- The head and the short convolutions are decayed and stay with Adam: a head is a lookup from features to tokens, and a
  depthwise convolution [W, D] is D independent filters, not a matrix.
- Everything else (embeddings, norm scales, biases, A_log, dt_bias, tables of memory layers) is not decayed and stays
  with Adam. Embeddings: the row of a rare token gets a gradient now and then but would decay at every step (OLMo 2,
  https://arxiv.org/abs/2501.00656, section 3).
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from memjax.config import OptimizerConfig, TableOptimizerConfig


class Treatment(NamedTuple):
    """What the optimiser does to a parameter: is it decayed, and is it orthogonalised when Muon is chosen."""

    decay: bool
    muon: bool


TREATMENTS: tuple[tuple[str, Treatment], ...] = (
    (r"^head/kernel$", Treatment(decay=True, muon=False)),
    (r"/conv[^/]*/kernel$", Treatment(decay=True, muon=False)),
    (r"^blocks/.*/kernel$", Treatment(decay=True, muon=True)),
    (r"", Treatment(decay=False, muon=False)),
)

_MATRIX = MuonDimensionNumbers(reduction_axis=(-2,), output_axis=(-1,))
_MUON_RMS = 0.2  # root mean square of an update, the usual one of AdamW (Liu et al., 2025, section 2.2)


def treatment(name: str) -> Treatment:
    """The treatment of the parameter at path `name`, such as "blocks/0/mixer/query/kernel"."""
    return next(found for pattern, found in TREATMENTS if re.search(pattern, name))


def treatments(names: Iterable[str]) -> dict[str, Treatment]:
    """The treatment of each name."""
    return {name: treatment(name) for name in names}


# The share of the way from the peak to the end that is left after a fraction of it, in [0, 1].
_LEFT = {
    "constant": jnp.ones_like,
    "linear": lambda fraction: 1.0 - fraction,
    "cosine": lambda fraction: 0.5 * (1.0 + jnp.cos(jnp.pi * fraction)),
}


def schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Learning rate of an update as a function of its number, counted from 0.

    Linear warm-up that reaches the peak at update `warmup_steps` (the first update is not a zero one), then a cosine
    down to `final_fraction` of the peak at `schedule_steps` (`steps` where that is None), constant afterwards.
    """
    return _warmed_up("cosine", config, _length(config, steps))


def table_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """As `schedule`, for `config.table`: its own peak, warm-up and shape, the length of the main one."""
    return _warmed_up(config.table.schedule, config.table, _length(config, steps))


def _length(config: OptimizerConfig, steps: int) -> int:
    return steps if config.schedule_steps is None else config.schedule_steps


def _warmed_up(shape: str, config: OptimizerConfig | TableOptimizerConfig, total: int) -> optax.Schedule:
    peak, warmup, final = config.learning_rate, config.warmup_steps, config.final_fraction

    def learning_rate(count):
        done = jnp.asarray(count, jnp.float32) + 1.0
        fraction = jnp.clip((done - warmup) / max(total - warmup, 1), 0.0, 1.0)
        return peak * jnp.minimum(done / max(warmup, 1), 1.0) * (final + (1.0 - final) * _LEFT[shape](fraction))

    return learning_rate


def build(config: OptimizerConfig, names: Iterable[str], steps: int) -> optax.GradientTransformation:
    """The optimiser for parameters held as a flat dictionary {path: array}, gradient clipping not included.

    Args:
        config: which optimiser and its numbers.
        names: the paths of all parameters.
        steps: length of the run, the length of the schedule where the config names none.

    Raises ValueError for an unknown optimiser.
    """
    chosen = treatments(names)
    adam = optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps)
    if config.name == "adamw":
        direction = adam
    elif config.name == "muon":
        labels = {name: "muon" if t.muon else "adam" for name, t in chosen.items()}
        direction = optax.partition({"muon": _muon(config), "adam": adam}, labels)
    else:
        raise ValueError(f"optimizer.name: {config.name!r} is not one of 'adamw', 'muon'")
    return optax.chain(
        direction,
        optax.add_decayed_weights(config.weight_decay, mask={name: t.decay for name, t in chosen.items()}),
        optax.scale_by_learning_rate(schedule(config, steps)),
    )


def clip_by_norm(gradients: Mapping[str, jax.Array], norm: jax.Array, limit: float | None) -> dict[str, jax.Array]:
    """Gradients scaled so that their global norm, which the caller already has, is at most `limit` (None: as they are).

    A norm that is not finite stays visible: it makes every gradient NaN or zero and is reported by the loop.
    """
    if not limit:
        return dict(gradients)
    scale = jnp.minimum(1.0, limit / norm)
    return {name: gradient * scale for name, gradient in gradients.items()}


def _muon(config: OptimizerConfig) -> optax.GradientTransformation:
    def dimensions(tree):
        return jax.tree.map(lambda _: _MATRIX, tree)

    def match_rms(updates, _):
        return jax.tree.map(lambda x: x * (_MUON_RMS * max(x.shape[-2:]) ** 0.5), updates)

    orthogonal = scale_by_muon(beta=config.momentum, eps=1e-8, weight_dimension_numbers=dimensions)
    return optax.chain(orthogonal, optax.stateless(match_rms))
