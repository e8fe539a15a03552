import numpy as np

from memjax.evaluation import plots
from memjax.evaluation.plots.heatmap import PANELS, Map, draw_maps
from tests.evaluation.samples import mqar, needle, report


def cells(panel):
    """The colours' values of a map as drawn, from the bottom up; NaN where nothing was measured."""
    (mesh,) = panel.collections
    return np.ma.filled(mesh.get_array(), np.nan)


def written(panel):
    return [text.get_text() for text in panel.texts]


def test_the_grid_has_pairs_upwards_and_length_to_the_right():
    panel = plots.grid([report(mqar(4, 64, 0.5), mqar(4, 128, 0.25), mqar(8, 64, 1.0))]).axes[0]
    np.testing.assert_array_equal(cells(panel), [[0.5, 0.25], [1.0, np.nan]])
    assert [text.get_text() for text in panel.get_xticklabels()] == ["64", "128"]
    assert [text.get_text() for text in panel.get_yticklabels()] == ["4", "8"]
    assert written(panel) == [".50", ".25", "1.00"]


def test_no_number_in_a_cell_says_that_nothing_is_wrong_where_something_is():
    panel = plots.grid([report(mqar(4, 64, 0.9994), mqar(8, 128, 0.9996))]).axes[0]
    assert written(panel) == [".99", "1.00"]


def test_a_grid_needs_two_axes_and_settings_that_differ_otherwise_are_apart():
    assert plots.grid([report(mqar(4, 64, 0.5), mqar(4, 128, 0.25))]) is None
    updates = [mqar(4, 64, 0.5, updates=2), mqar(8, 128, 0.5, updates=2), mqar(4, 256, 0.5, updates=3)]
    figure = plots.grid([report(mqar(4, 64, 0.5), mqar(8, 128, 0.25), *updates)])
    assert [panel.get_title() for panel in figure.axes[:2]] == ["mqar", "mqar, updates 2"]


def test_needles_have_a_panel_a_run_and_variant_with_the_beginning_on_top():
    rows = [
        needle(length, depth, depth * 64 / length, kind)
        for length in (64, 128)
        for depth in (0.0, 1.0)
        for kind in "ab"
    ]
    figure = plots.needles([report(*rows), report(*rows, run="other")])
    panels = figure.axes[:4]
    assert [panel.get_title() for panel in panels] == ["quickstart\na", "quickstart\nb", "other\na", "other\nb"]
    np.testing.assert_array_equal(cells(panels[0]), [[0.0, 0.0], [1.0, 0.5]])
    bottom, top = panels[0].get_ylim()
    assert bottom > top and [text.get_text() for text in panels[0].get_yticklabels()] == ["0", "1"]


def test_needles_without_a_depth_are_no_map():
    row = {name: value for name, value in needle(64, 0.5, 1.0).items() if name != "depth"}
    assert plots.needles([report({**row, "axes": ["variant", "length"]})]) is None


def test_a_figure_says_what_it_leaves_out():
    maps = [Map(f"run {i}", {(1, 1): 0.5, (2, 2): 0.5}) for i in range(PANELS + 3)]
    figure = draw_maps(maps, title="all", across="x", upwards="y")
    assert f"the first {PANELS} of {PANELS + 3}" in figure.get_suptitle()
