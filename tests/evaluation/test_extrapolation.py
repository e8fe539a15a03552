"""Length extrapolation against one long call for each row, losses in float64."""

import dataclasses
import math

import jax
import numpy as np
import pytest
from flax import nnx

from memjax import data
from memjax.evaluation import extrapolation as module
from memjax.evaluation import positions
from memjax.evaluation.extrapolation import extrapolation, stream
from memjax.mixers import AttentionConfig, GatedDeltaNetConfig
from memjax.models import LM, BlockConfig, LMConfig
from tests.evaluation.plain import assert_tables_equal, log_softmax, plain_table

LENGTH, FACTOR, WINDOWS = 16, 4, 5
MIXERS = {
    "recurrent": GatedDeltaNetConfig(heads=1, head_dim=8),
    "window": AttentionConfig(heads=1, context=24),  # forgets within the longest rows
}


def untrained(mixer) -> LM:
    """A model of large logits, so that what it remembers shows."""
    block = BlockConfig(mixer=mixer, mlp=None)
    config = LMConfig(vocab_size=257, width=16, blocks=(block,), repeats=1, embedding_std=1.0)
    return LM(config, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def config(text_run):
    """Rows of 16 tokens, two in a batch."""
    found = text_run[2]
    evaluation = dataclasses.replace(found.evaluation, batch_size=2)
    return dataclasses.replace(found, data=dataclasses.replace(found.data, length=LENGTH), evaluation=evaluation)


def one_call(model, text, length):
    """float64 [W, L]: losses of windows whose rows of `length` tokens are read in one call each."""
    forward = jax.jit(lambda tokens: model(tokens).logits)
    rows = {name: text[name].reshape(-1, length) for name in ("tokens", "targets")}
    chances = log_softmax(np.asarray(forward(rows["tokens"])))
    losses = -np.take_along_axis(chances, rows["targets"][..., None], axis=-1)[..., 0]
    return losses.reshape(text["tokens"].shape)


def windows(config, count=4):
    text = stream(config, count * FACTOR * LENGTH)
    return {name: values.reshape(count, -1) for name, values in text.items()}


@pytest.fixture(scope="module", params=MIXERS)
def measured(request, config):
    """(model, rows of the report, {length: losses of one call})."""
    model, text = untrained(MIXERS[request.param]), windows(config)
    lengths = [LENGTH, 2 * LENGTH, 4 * LENGTH]
    wanted = {length: one_call(model, text, length) for length in lengths}
    return model, extrapolation(model, config, factor=FACTOR, windows=WINDOWS), wanted


def assert_agrees(rows, wanted):
    np.testing.assert_allclose([row["loss"] for row in rows], [w.mean() for w in wanted.values()], rtol=1e-5)
    last = [w[:, -LENGTH:].mean() for w in wanted.values()]
    np.testing.assert_allclose([row["last_loss"] for row in rows], last, rtol=1e-5)


def test_the_stream_is_the_text_with_an_end_token_between_documents(config, tmp_path):
    documents = ["first", "the second one is longer than a row", "third"]
    (tmp_path / "train.txt").write_text("anything")
    (tmp_path / "valid.jsonl").write_text("\n".join(f'{{"text": "{text}"}}' for text in documents))
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, path=str(tmp_path)))
    wanted = [256]
    for text in documents:
        wanted += [*text.encode(), 256]
    found = stream(config, 1000)
    assert found["tokens"].tolist() == wanted[:-1] and found["targets"].tolist() == wanted[1:]
    assert int(found["bytes"].sum()) == sum(map(len, documents))
    assert stream(config, 7)["targets"].tolist() == wanted[1:8]


def test_calls_that_hand_the_state_on_equal_one_call(measured):
    _, rows, wanted = measured
    assert [row["length"] for row in rows] == list(wanted)
    assert_agrees(rows, wanted)


def test_a_state_that_is_dropped_is_noticed(measured, config, monkeypatch):
    model, _, wanted = measured
    right = module._call
    monkeypatch.setattr(module, "_call", lambda m, x, y, state, **k: right(m, x, y, m.init_state(len(x)), **k))
    forgetful = extrapolation(model, config, factor=FACTOR, windows=WINDOWS)
    assert len({row["loss"] for row in forgetful}) == 1  # every length is then the shortest
    with pytest.raises(AssertionError):
        assert_agrees(forgetful, wanted)


def test_every_length_scores_the_same_tokens(measured, config):
    _, rows, wanted = measured
    tokens, size = 4 * FACTOR * LENGTH, int(windows(config)["bytes"].sum())  # of five windows two batches are full
    for row in rows:
        assert (row["tokens"], row["rows"]) == (tokens, tokens // row["length"])
        assert (row["trained_length"], row["last_tokens"]) == (LENGTH, 4 * LENGTH)
        bits = wanted[row["length"]].sum() / math.log(2) / size
        assert row["bits_per_byte"] == pytest.approx(bits, rel=1e-5)


def test_loss_by_position_is_that_of_one_call(measured):
    _, rows, wanted = measured
    for row in rows:
        losses = wanted[row["length"]].reshape(-1, row["length"])
        ones = np.ones(losses.shape, int)
        table = plain_table(losses, ones, ones, positions.borders(LENGTH, row["length"]))
        assert_tables_equal(row["by_position"], table)
    assert [bucket[1] for bucket in rows[-1]["by_position"]][-3:] == [LENGTH, 2 * LENGTH, 4 * LENGTH]


def test_the_gain_on_the_last_tokens_pairs_each_window_with_itself(measured):
    _, rows, wanted = measured
    assert rows[0]["last_gain"] == rows[0]["last_gain_error"] == 0.0
    for row in rows[1:]:
        pairs = [
            np.mean(short) - np.mean(long)
            for short, long in zip(wanted[LENGTH][:, -LENGTH:], wanted[row["length"]][:, -LENGTH:], strict=True)
        ]
        assert row["last_gain"] == pytest.approx(np.mean(pairs), abs=1e-5)
        assert row["last_gain_error"] == pytest.approx(np.std(pairs, ddof=1) / 2, abs=1e-5)


def test_one_program_serves_every_length(config):
    model = untrained(MIXERS["recurrent"])
    before = module._call._cache_size()
    extrapolation(model, config, factor=FACTOR, windows=WINDOWS)
    assert module._call._cache_size() <= before + 1


def test_a_short_split_is_read_as_far_as_it_goes(text_run):
    _, model, config = text_run
    found = extrapolation(model, config)
    count = sum(int((batch["targets"] >= 0).sum()) for batch in data.eval_loader(config.data, batch_size=4))
    assert 2 * found[-1]["length"] > count >= found[-1]["length"] and found[-1]["rows"] == 1
    assert found[-1]["last_gain_error"] is None


def test_a_split_without_one_row(text_run):
    _, model, config = text_run
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, length=4096))
    with pytest.raises(ValueError, match="less than one row of 4096"):
        extrapolation(model, config)


@pytest.mark.parametrize("wrong", [{"factor": 3}, {"factor": 0}, {"windows": 0}])
def test_impossible_lengths(text_run, wrong):
    with pytest.raises(ValueError, match="power of two"):
        extrapolation(*text_run[1:], **wrong)
