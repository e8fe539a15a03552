"""Loss by position against plain loops over the model's logits, in float64."""

import dataclasses

import jax
import numpy as np
import pytest

from memjax import data
from memjax.evaluation import positions, text_loss
from memjax.evaluation.text import evaluation_batch
from tests.evaluation.plain import assert_tables_equal, log_softmax, plain_table


@pytest.fixture(scope="module")
def packed_config(text_run, tmp_path_factory):
    """The run's configuration with documents of many lengths: rows hold several, or a part of one, and padding."""
    folder = tmp_path_factory.mktemp("short")
    lines = [f'{{"text": "{"abc " * (0, 1, 0, 12, 2)[i % 5]}{i}"}}' for i in range(60)]
    (folder / "story.jsonl").write_text("\n".join(lines))
    config = text_run[2]
    stored = dataclasses.replace(config.data, path=str(folder / "story.jsonl"), eval_fraction=0.7)
    return dataclasses.replace(config, data=stored)


@pytest.mark.parametrize(
    ("trained", "longest", "wanted"),
    [
        (8, None, (0, 1, 2, 4, 8)),
        (6, None, (0, 1, 2, 4, 6)),
        (6, 24, (0, 1, 2, 4, 6, 12, 24)),
        (1, 4, (0, 1, 2, 4)),
        (1, 1, (0, 1)),
        (4, 7, (0, 1, 2, 4, 7)),
    ],
)
def test_borders_double_and_the_trained_length_is_one(trained, longest, wanted):
    assert positions.borders(trained, longest) == wanted


@pytest.mark.parametrize(("trained", "longest"), [(0, None), (8, 4)])
def test_impossible_borders(trained, longest):
    with pytest.raises(ValueError, match="trained"):
        positions.borders(trained, longest)


def test_sums_of_packed_rows_are_those_of_a_loop(rng):
    segment_ids = np.array([[1, 1, 1, 2, 2, 2, 2, 3, 0, 0], [5, 5, 0, 0, 7, 7, 7, 7, 7, 7]], np.int32)
    targets = np.where((segment_ids > 0) & (rng.random(segment_ids.shape) < 0.8), 1, -1)
    losses = np.where(targets >= 0, rng.random(segment_ids.shape), 0).astype(np.float32)
    edges = positions.borders(10)
    sums, counts = jax.jit(positions.bucket_sums, static_argnums=3)(losses, targets >= 0, segment_ids, edges)
    found = positions.table(edges, np.asarray(sums), np.asarray(counts))
    assert_tables_equal(found, plain_table(losses, targets, segment_ids, edges), rel=1e-6)
    assert found[-1][:2] == [4, 8]  # nobody stands at 8 or later: that bucket is left out


def test_aligned_rows_are_one_document_each(rng):
    losses, edges = rng.random((3, 12)), positions.borders(3, 12)
    ones = np.ones((3, 12), int)
    assert_tables_equal(positions.aligned(losses, edges), plain_table(losses, ones, ones, edges), rel=1e-12)


@pytest.mark.parametrize("chunk", [None, 5])
def test_a_runs_loss_by_position_is_that_of_its_logits(text_run, packed_config, chunk):
    _, model, _ = text_run
    config = dataclasses.replace(packed_config, loss_chunk=chunk)
    found = text_loss(model, config, by_position=True)
    forward = jax.jit(lambda tokens, segment_ids: model(tokens, segment_ids=segment_ids).logits)
    losses, targets, segment_ids = [], [], []
    for batch in data.eval_loader(config.data, batch_size=evaluation_batch(config)):
        chances = log_softmax(np.asarray(forward(batch["tokens"], batch["segment_ids"])))
        losses.append(-np.take_along_axis(chances, np.maximum(batch["targets"], 0)[..., None], axis=-1)[..., 0])
        targets.append(batch["targets"])
        segment_ids.append(batch["segment_ids"])
    segment_ids = np.concatenate(segment_ids)
    assert segment_ids.max() > 2 and (segment_ids == 0).any(), "rows must hold several documents, and padding"
    wanted = plain_table(np.concatenate(losses), np.concatenate(targets), segment_ids, positions.borders(32))
    assert_tables_equal(found["by_position"], wanted)
    assert sum(tokens for *_, tokens in found["by_position"]) == found["tokens"]


@pytest.mark.parametrize("chunk", [None, 5])
def test_the_other_numbers_are_the_same_to_the_last_bit(text_run, packed_config, chunk):
    config = dataclasses.replace(packed_config, loss_chunk=chunk)
    alone, both = (text_loss(text_run[1], config, by_position=asked) for asked in (False, True))
    assert alone == {name: value for name, value in both.items() if name != "by_position"}
