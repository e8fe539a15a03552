"""One training step as a pure function of (state, batch), jitted with the state donated.

With A micro-batches, N scored tokens in all of them together, token losses l and auxiliary losses a_i the objective is
sum(l) / N + mean_i(a_i): its gradient is a plain sum over micro-batches, and A micro-batches of unequal numbers of
scored tokens equal one large batch.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from memjax.config import TrainConfig
from memjax.layers import READS
from memjax.training import touched_rows
from memjax.training.loss import gather_positions, scored_in, squared_sums, token_sums
from memjax.training.skeleton import Parameters, Skeleton
from memjax.training.update import Gradients, Optimizer, Slots

# tokens, segment_ids [A, B, T]; targets [A, B, T], or [A, B, K] with "positions" [A, B, K]; bytes as targets (text).
# Real-valued rows: inputs [A, B, T, F] with outputs [A, B, T, O] and mask [A, B, T], or with targets [A, B, 1].
Batch = dict[str, Any]
Metrics = dict[str, jax.Array]


class TrainState(NamedTuple):
    """What one step hands to the next; donated, so a state that was passed in is gone.

    Attributes:
        parameters: float32, by path.
        optimizer: state of the optimizers.
        step: int32 [], updates done so far.
    """

    parameters: Parameters
    optimizer: Slots
    step: jax.Array


def make_step(
    config: TrainConfig, skeleton: Skeleton, optimizer: Optimizer
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The training step of `config`, not yet jitted.

    The metrics are scalars: loss (mean over scored tokens, nats, or mean squared error), accuracy (of tokens and
    classes), gradient_norm (before clipping; of tables trained by rows apart, table_gradient_norm, with table_rows, the
    rows touched), learning_rate, tokens (without padding), scored, for text bits_per_byte, and what the layers report
    in aux; and gradient_squares [parameters], the squared norm of each gradient in the order of `skeleton.abstract`,
    from which a number that is not finite is traced to its parameter at no extra cost.
    """
    gradients_of = make_gradients(config, skeleton, optimizer.tables)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        gradients, metrics = gradients_of(state.parameters, batch, key)
        squares = {name: touched_rows.squared_norm(gradients[name]) for name in skeleton.abstract}
        parameters, slots, more = optimizer.update(gradients, squares, state.optimizer, state.parameters, state.step)
        metrics |= {"gradient_squares": jnp.stack(list(squares.values()))} | more
        return TrainState(parameters, slots, state.step + 1), metrics

    return step


def make_gradients(
    config: TrainConfig, skeleton: Skeleton, tables: Sequence[str] = ()
) -> Callable[[Parameters, Batch, jax.Array | None], tuple[Gradients, Metrics]]:
    """(parameters, batch, key) -> (gradients of the objective, metrics of the forward pass).

    The gradients of the parameters `tables` are `Rows`: those that the batch read.
    """
    dtype = jnp.dtype(config.compute_dtype)

    def objective(learned, taps, constant, micro, key, scored, parts):
        model = skeleton.model({**learned, **constant})
        read: Any = model.hidden  # of tokens or of real-valued inputs, as the model is
        options = {"segment_ids": micro.get("segment_ids"), "key": key, "dtype": dtype}
        hidden, _, aux = read(rows_in(micro), taps=taps if tables else None, **options)
        aux = dict(aux)
        reads = aux.pop(READS, {})
        if "positions" in micro:
            hidden = gather_positions(hidden, micro["positions"])
        if "outputs" in micro:
            sums = squared_sums(model.logits, hidden, micro["outputs"], micro["mask"])
        else:
            sums = token_sums(model.logits, hidden, micro["targets"], config.loss_chunk)
        extra = sum((value for name, value in aux.items() if name.startswith("loss/")), jnp.zeros(()))
        return sums.loss / scored + extra / parts, (sums, aux, reads)

    gradient_of = jax.grad(objective, argnums=(0, 1), has_aux=True)

    def gradients_of(parameters, batch, key):
        parts, rows, time = rows_in(batch).shape[:3]
        scored = jnp.maximum(scored_in(batch), 1).astype(jnp.float32)
        constant = {name: parameters[name] for name in tables}
        learned = {name: value for name, value in parameters.items() if name not in constant}
        taps = skeleton.model(parameters).taps(rows, time) if tables else {}

        def one(micro, index):
            part_key = None if key is None else jax.random.fold_in(key, index)
            (gradients, cotangents), measured = gradient_of(learned, taps, constant, micro, part_key, scored, parts)
            return gradients, (cotangents, *measured)

        def body(total, part):
            gradients, measured = one(*part)
            return jax.tree.map(jnp.add, total, gradients), measured

        if parts == 1:
            gradients, measured = one({name: x[0] for name, x in batch.items()}, 0)
            measured = jax.tree.map(lambda x: x[None], measured)
        else:
            zeros = jax.tree.map(jnp.zeros_like, learned)
            gradients, measured = jax.lax.scan(body, zeros, (batch, jnp.arange(parts)))
        cotangents, sums, aux, reads = measured
        sums = jax.tree.map(lambda x: jnp.sum(x, 0), sums)
        aux = jax.tree.map(lambda x: jnp.mean(x, 0), aux)
        sizes = {name: table.shape[-2] for name, table in constant.items()}
        touched = touched_rows.gather(config.model, reads, cotangents, sizes)
        return {**gradients, **touched}, _metrics(sums, scored, batch) | aux

    return gradients_of


def rows_in(batch: Batch) -> Any:
    """What the model reads of a batch: token ids [..., T], or real-valued inputs [..., T, F]."""
    return batch["tokens"] if "tokens" in batch else batch["inputs"]


def _metrics(sums, scored: jax.Array, batch: Batch) -> Metrics:
    segments = batch.get("segment_ids")
    metrics = {
        "loss": sums.loss / scored,
        "scored": sums.scored,
        "tokens": jnp.asarray(math.prod(rows_in(batch).shape[:3]), jnp.int32)
        if segments is None
        else jnp.sum(segments > 0),
    }
    if sums.correct is not None:
        metrics["accuracy"] = sums.correct / scored
    if "bytes" in batch:
        byte_count = jnp.sum(jnp.where(batch["targets"] >= 0, batch["bytes"], 0))
        metrics["bits_per_byte"] = sums.loss / jnp.log(2.0) / jnp.maximum(byte_count, 1)
    return metrics
