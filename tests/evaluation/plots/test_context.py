"""Figures over the context: loss by position, and the cost of decoding."""

import pytest

from memjax.evaluation import plots
from tests.evaluation.samples import decoding, extrapolation, mqar, report, text


def points(panel, label):
    (line,) = [line for line in panel.lines if line.get_label() == label]
    return list(zip(*map(list, line.get_data()), strict=True))


def test_a_bucket_is_drawn_in_its_middle_and_empty_ones_are_not():
    (panel,) = plots.positions([report(text())]).axes
    assert points(panel, "text") == [(8, 3.0), (24, 2.5)]
    assert panel.get_xscale() == "log" and "nats" in panel.get_ylabel()


def test_of_extrapolation_the_longest_context_and_all_lengths():
    rows = [extrapolation(length, 2 + length / 1000) for length in (256, 64, 128)]
    position, length = plots.positions([report(text(), *rows)]).axes
    assert points(position, "contexts of 256") == [(32, pytest.approx(2.756)), (160, pytest.approx(2.256))]
    assert points(length, "all tokens of a context") == [
        (row["length"], row["loss"]) for row in (rows[1], rows[2], rows[0])
    ]
    assert [x for x, _ in points(length, "its last tokens")] == [64, 128, 256]
    assert {x for x, _ in points(position, "length of training")} == {64}


def test_runs_without_positions_have_no_such_figure():
    plain = {name: value for name, value in text().items() if name != "by_position"}
    assert plots.positions([report(plain, mqar(2, 64, 1.0))]) is None


def test_the_cost_of_decoding_over_the_context():
    rows = [decoding(1024, 2.0), decoding(64, 1.0, temporary_bytes=None)]
    figure = plots.decoding([report(*rows), report(*rows, run="other")])
    time, memory = figure.axes
    drawn = [list(zip(*(part.tolist() for part in line.get_data()), strict=True)) for line in time.lines]
    assert [line for line in drawn if line] == [[(64, 1.0), (1024, 2.0)]] * 2 + [[(64, 0.1), (1024, 0.2)]] * 2
    assert [(1024, 4096)] in [list(zip(*map(list, line.get_data()), strict=True)) for line in memory.lines]
    assert "4 KiB" in [text.get_text() for text in memory.get_yticklabels()]
    assert "(cpu, batch 1)" in figure.get_suptitle() and "milliseconds" in time.get_ylabel()
    assert {"quickstart", "other", "decoding", "prefill"} <= {text.get_text() for text in figure.legends[0].get_texts()}


def test_other_batches_and_devices_are_other_lines():
    rows = [decoding(64, 1.0), decoding(64, 3.0, batch=8), decoding(64, 2.0, device="H100")]
    names = {text.get_text() for text in plots.decoding([report(*rows)]).legends[0].get_texts()}
    assert {"batch 1, cpu", "batch 8, cpu", "batch 1, H100"} <= names
    assert plots.decoding([report(text())]) is None
