"""The picture of a sweep, from made-up rows."""

import io

from memjax.evaluation.plots import emit
from memjax.evaluation.sweeps import draw_sweep


def row(kind, rate, seed, mse):
    return {"kind": kind, "learning_rate": rate, "seed": seed, "mse": mse, "diverged": mse is None}


ROWS = [
    *(row("exp", 1e-3, seed, mse) for seed, mse in enumerate((1.0, 3.0, 2.0))),
    *(row("exp", 1e-2, seed, mse) for seed, mse in enumerate((0.5, None, None))),
    *(row("exp", 1e-1, seed, None) for seed in range(3)),
    *(row("best", rate, 0, rate) for rate in (1e-3, 1e-2, 1e-1)),
]


def drawn():
    (panel,) = draw_sweep(ROWS, line="kind", title="made up").axes
    return panel


def test_a_line_runs_through_the_medians_of_what_ended():
    lines = {line.get_label(): list(line.get_ydata()) for line in drawn().lines}
    assert lines["exp"][:2] == [2.0, 0.5] and lines["exp"][2] != lines["exp"][2]
    assert lines["best"] == [1e-3, 1e-2, 1e-1]


def test_the_band_is_the_spread_over_seeds():
    band = drawn().collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (0.5, 3.0)


def test_what_diverged_is_marked_and_counted():
    panel = drawn()
    crosses = [line for line in panel.lines if line.get_marker() == "x"]
    assert [line.get_xdata()[0] for line in crosses] == [1e-2, 1e-1]
    assert [text.get_text() for text in panel.texts] == ["2/3", "3/3"]
    assert panel.get_xscale() == panel.get_yscale() == "log"


def test_it_becomes_a_picture_even_if_all_diverged():
    file = io.BytesIO()
    emit(draw_sweep([row("exp", 1.0, 0, None)], line="kind", title="lost"), file)
    assert file.getvalue().startswith(b"\x89PNG")
