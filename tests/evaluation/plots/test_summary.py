import io

import numpy as np
from matplotlib.image import imread

from memjax.evaluation import plots
from tests.evaluation.samples import decoding, extrapolation, harness, needle, report
from tests.evaluation.samples import mqar as row

GRID = [row(2, 64, 1.0), row(4, 64, 0.9), row(8, 64, 0.5), row(4, 128, 0.8), row(4, 256, 0.7)]


def lines(panel):
    """{legend entry: [(x, y), ...]}"""
    return {line.get_label(): list(zip(*map(np.ndarray.tolist, line.get_data()), strict=True)) for line in panel.lines}


def entries(panel):
    return [text.get_text() for text in panel.get_legend().get_texts()]


def test_one_panel_per_axis_holds_the_results_that_differ_along_it():
    figure = plots.draw([report(*GRID)])
    pairs, length = figure.axes
    assert lines(pairs)["length 64"] == [(2, 1.0), (4, 0.9), (8, 0.5)]
    assert lines(length)["pairs 4"] == [(64, 0.9), (128, 0.8), (256, 0.7)]
    assert {y for _, y in lines(pairs)["chance"]} == {1 / 128}
    assert pairs.get_xscale() == "log" and [text.get_text() for text in pairs.get_xticklabels()] == ["2", "4", "8"]
    assert "tokens" in length.get_xlabel() and "accuracy" in length.get_ylabel()
    assert "20,992 bytes" in figure.get_suptitle()


def test_results_that_share_no_line_are_drawn_with_their_setting():
    (pairs, _) = plots.draw([report(row(4, 64, 1.0), row(8, 128, 0.8), row(16, 256, 0.2))]).axes
    assert lines(pairs)["setting at the point"] == [(4, 1.0), (8, 0.8), (16, 0.2)]
    assert [text.get_text() for text in pairs.texts] == ["length 64", "length 128", "length 256"]


def test_several_runs_name_the_setting_of_a_point_once():
    points = [row(4, 64, 1.0), row(8, 128, 0.8)]
    (pairs, _) = plots.draw([report(*points), report(*points, run="other")]).axes
    assert [text.get_text() for text in pairs.texts] == ["length 64", "length 128"]


def test_several_runs_share_the_axes_with_a_colour_each():
    figure = plots.draw([report(*GRID), report(*GRID, run="other")])
    pairs = figure.axes[0]
    found = [line for line in pairs.lines if line.get_label() != "chance"]
    assert [line.get_label() for line in found] == ["quickstart (20.5 KiB): length 64", "other (20.5 KiB): length 64"]
    assert found[0].get_color() != found[1].get_color()


def test_where_lines_are_many_the_figure_names_the_runs_and_a_panel_the_settings():
    square = [row(pairs, length, 0.5) for pairs in (2, 4, 8) for length in (64, 128, 256)]
    figure = plots.draw([report(*square, run=f"run{i}") for i in range(3)])
    assert entries(figure.axes[0]) == ["length 64", "length 128", "length 256", "chance"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [f"run{i} (20.5 KiB)" for i in range(3)]


def test_more_lines_than_styles_become_their_mean():
    rows = [needle(length, depth, depth) for length in (64, 128) for depth in (0.0, 0.2, 0.4, 0.6, 0.8)]
    length, depth = plots.draw([report(*rows)]).axes
    assert lines(length)["mean of 5 settings at 2 points"] == [(64, 0.4), (128, 0.4)]
    assert len(lines(depth)["length 64" if "length 64" in lines(depth) else "variant single_1, length 64"]) == 5
    assert depth.get_xscale() == "linear"


def test_every_task_has_its_row_and_a_single_setting_is_a_bar():
    figure = plots.draw([report(*GRID, row(4, 64, 0.25, task="copy"))])
    visible = [panel for panel in figure.axes if panel.get_visible()]
    assert [panel.get_title().split(":")[0] for panel in visible] == ["mqar", "mqar", "copy"]
    assert visible[2].patches[0].get_height() == 0.25


def test_bars_of_one_run_are_named_by_what_differs():
    (panel,) = plots.draw([report(*(needle(64, 0.5, 0.5, variant) for variant in ("single_1", "multikey_1")))]).axes
    assert [text.get_text() for text in panel.get_xticklabels()] == ["single_1", "multikey_1"]
    assert "length 64" in panel.get_title()


def test_rows_without_an_accuracy_are_left_to_other_figures():
    others = [extrapolation(64, 2.0), extrapolation(128, 2.1), decoding(64, 1.0), harness(accuracy=0.5, axes=[])]
    figure = plots.draw([report(*GRID, *others)])
    assert [panel.get_title().split(":")[0] for panel in figure.axes] == ["mqar", "mqar"]
    plots.draw([report(*others)])  # nothing to draw is an empty figure and no error


def test_a_text_run_shows_its_losses_and_bits_per_byte():
    text = report({"task": "text", "loss": 1.4, "bits_per_byte": 2.02}, extrapolation(64, 9.0))
    rows = [{"step": step, "loss": 5 / step} for step in (1, 2, 3)] + [{"step": 3, "eval/loss": 1.7}]
    (panel,) = plots.draw([text], [rows]).axes
    assert lines(panel)["validation"] == [(3, 1.7)]
    assert [x for x, _ in lines(panel)["training"]] == [1, 2, 3]
    assert "2.020 bits per byte" in panel.get_title() and "nats per token" in panel.get_ylabel()


def test_lengths_and_contexts_are_no_accuracies_and_no_headline():
    settings = [
        {"task": "extrapolation", "length": 64, "loss": 1.2, "bits_per_byte": 1.7, "axes": ["length"]},
        {"task": "decoding", "context": 64, "decode_ms_per_token": 0.1, "axes": ["context"]},
    ]
    (panel,) = plots.draw([report(*settings, {"task": "text", "loss": 1.4, "bits_per_byte": 2.02})], [[]]).axes
    assert "2.020 bits per byte" in panel.get_title()
    assert not any(panel.get_visible() for panel in plots.draw([report(*settings)], [[]]).axes)
    assert [panel.get_title() for panel in plots.draw([report(*settings, *GRID)]).axes] == [
        "mqar: accuracy over pairs",
        "mqar: accuracy over length",
    ]


def test_the_picture_is_a_png_that_is_not_blank():
    file = io.BytesIO()
    plots.emit(plots.draw([report(*GRID)]), file)
    file.seek(0)
    picture = imread(file)
    assert picture.shape[1] > 1000 and picture.std() > 0.01
