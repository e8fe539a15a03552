"""Language modelling: loss and bits per byte over the evaluation split, and text continued from a prompt."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from memjax import data
from memjax.config import TrainConfig
from memjax.data import StoredData
from memjax.evaluation import positions
from memjax.evaluation.spread import split_rows, whole
from memjax.models import LM, generate
from memjax.training.loss import token_losses, token_sums
from memjax.training.skeleton import Model


def text_loss(
    model: LM, config: TrainConfig, *, batches: int | None = None, by_position: bool = False
) -> dict[str, Any]:
    """Loss over the evaluation split of the run's data.

    Args:
        model: the model.
        config: the run's configuration.
        batches: how many batches to read; None reads the whole split.
        by_position: also tell the loss by position in context, from the same pass.

    Returns:
        "loss" in nats per token, "bits_per_byte" of text (the sum of all losses over the bytes that the targets stand
        for, ends of documents cost bits and count no byte), "tokens" and "bytes" that were scored. If asked for,
        "by_position": [start, stop, nats per token, tokens] for each bucket of `memjax.evaluation.positions`.

    Raises ValueError where nothing was scored.
    """
    edges = None  # where the data are no text, the loader says so
    if by_position and isinstance(config.data, StoredData):
        edges = positions.borders(config.data.length)
    sums = []
    for index, batch in enumerate(data.eval_loader(config.data, batch_size=evaluation_batch(config))):
        if batches is not None and index >= batches:
            break
        arrays = [batch[name] for name in ("tokens", "targets", "segment_ids")]
        losses, buckets = _sums(model, *arrays, chunk=config.loss_chunk, dtype=config.compute_dtype, edges=edges)
        sums.append((losses, int(np.sum(batch["bytes"], where=batch["targets"] >= 0)), buckets))
    # Read at the end: while one batch is computed, the next is prepared.
    loss = math.fsum(float(losses.loss) for losses, _, _ in sums)
    tokens, size = sum(int(losses.scored) for losses, _, _ in sums), sum(size for _, size, _ in sums)
    if not tokens or not size:
        raise ValueError("the evaluation split holds no text")
    found = {"loss": loss / tokens, "bits_per_byte": loss / math.log(2) / size, "tokens": tokens, "bytes": size}
    if edges is None:
        return found
    losses, counts = (np.stack([np.asarray(each[part]) for *_, each in sums]) for part in range(2))
    return found | {"by_position": positions.table(edges, losses.sum(0, dtype=np.float64), counts.sum(0))}


def evaluation_batch(config: TrainConfig) -> int:
    """Rows in an evaluation batch: as asked, or as many as a training micro-batch has."""
    return config.evaluation.batch_size or max(1, config.batch_size // config.accumulate)


@functools.partial(jax.jit, static_argnames=("chunk", "dtype", "edges"))
def _sums(model: LM, tokens, targets, segment_ids, *, chunk: int | None, dtype: str, edges: tuple[int, ...] | None):
    """`TokenSums`, and the sums of `positions.bucket_sums` or None where no `edges` are given."""
    tokens, targets, segment_ids = split_rows((tokens, targets, segment_ids))
    hidden = model.hidden(tokens, segment_ids=segment_ids, taps={}, dtype=jnp.dtype(dtype)).hidden
    if edges is None:
        return whole((token_sums(model.logits, hidden, targets, chunk), None))
    sums, losses = token_losses(model.logits, hidden, targets, chunk)
    return whole((sums, positions.bucket_sums(losses, targets >= 0, segment_ids, edges)))


def continue_text(model: LM, config: TrainConfig, prompt: str, *, steps: int | None = None) -> str:
    """The text that the model puts after `prompt` (the prompt excluded), as the start of a document.

    Args:
        model: the model.
        config: the run's configuration: its tokenizer, and temperature and seed of the drawing.
        prompt: text; "" begins a document from nothing.
        steps: tokens to draw; None takes `config.evaluation.sample_steps`.

    Raises ValueError where the run was not trained on text.
    """
    if not isinstance(config.data, StoredData):
        raise ValueError("--prompt needs a run that was trained on text; this one was not")
    tokenizer = data.load_tokenizer(config.data)
    tokens = jnp.asarray([[tokenizer.end, *tokenizer.encode(prompt)]], jnp.int32)
    steps = config.evaluation.sample_steps if steps is None else steps
    key, temperature = jax.random.key(config.seed), config.evaluation.temperature
    drawn: Any = generate(model, tokens, steps, temperature=temperature, key=key)
    ids = np.asarray(drawn[0]).tolist()
    return tokenizer.decode(ids[: ids.index(tokenizer.end)] if tokenizer.end in ids else ids)


def sample(model: Model, config: TrainConfig) -> str:
    """A few lines from a text run: `config.evaluation.prompt` and its continuation; "" for other runs."""
    if not isinstance(config.data, StoredData) or not isinstance(model, LM) or not config.evaluation.sample_steps:
        return ""
    prompt = config.evaluation.prompt
    return prompt + continue_text(model, config, prompt)
