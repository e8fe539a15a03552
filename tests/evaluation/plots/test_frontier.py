import pytest

from memjax.evaluation import plots
from memjax.evaluation.frontiers import draw_frontier
from tests.evaluation.samples import config, mqar, report


def curve(panel, label):
    """[(bytes, mean), ...] and [(least, greatest), ...] of an architecture's curve."""
    (found,) = [container for container in panel.containers if container.get_label() == label]
    line, _, (bars,) = found
    spans = [tuple(segment[:, 1].tolist()) for segment in bars.get_segments()]
    return list(zip(*(part.tolist() for part in line.get_data()), strict=True)), spans


def run(mixer, state_bytes, accuracy, seed=0, **changes):
    rows = [mqar(4, 64, accuracy), mqar(8, 64, accuracy / 2)]
    return report(*rows, state_bytes=state_bytes, config=config(mixer, seed=seed, **changes))


RUNS = [run("GLA", 1024, 0.2), run("GLA", 4096, 0.6), run("GLA", 4096, 0.8, seed=1), run("Mamba2", 8192, 0.4)]


def test_a_curve_an_architecture_through_the_means_of_seeds():
    figure = plots.frontier(RUNS)
    mean, first, second = [panel for panel in figure.axes if panel.get_visible()]
    assert [panel.get_title() for panel in (mean, first)] == ["mqar: mean of 2 settings", "mqar: pairs 4, length 64"]
    points, bars = curve(first, "GLA")
    assert points == [(1024, 0.2), (4096, pytest.approx(0.7))]
    assert bars == [(0.2, 0.2), (pytest.approx(0.6), pytest.approx(0.8))]
    assert curve(second, "Mamba2")[0] == [(8192, 0.2)]
    assert curve(mean, "GLA")[0][0] == (1024, pytest.approx(0.15))
    assert mean.get_xscale() == "log" and "8 KiB" in [text.get_text() for text in mean.get_xticklabels()]


def test_other_configurations_of_the_same_state_are_no_seeds():
    worse = run("GLA", 4096, 0.1, learning_rate=1.0)
    first = plots.frontier([*RUNS, worse]).axes[1]
    assert curve(first, "GLA")[0][1] == (4096, pytest.approx(0.7))
    assert [4096.0, 0.1] in [
        [float(x), float(y)] for line in first.lines for x, y in zip(*line.get_data(), strict=True)
    ]


def test_the_mean_is_over_settings_that_all_runs_share():
    more = [
        report(*r["results"], mqar(16, 64, 0.0), state_bytes=r["state_bytes"], config=r["config"]) for r in RUNS[:1]
    ]
    figure = plots.frontier([*more, *RUNS[1:]])
    mean = figure.axes[0]
    assert mean.get_title() == "mqar: mean of 2 settings"
    assert curve(mean, "GLA")[0][0] == (1024, pytest.approx(0.15))


def test_many_settings_are_shown_by_their_mean_alone():
    runs = [
        report(*(mqar(p, 64, p / 20) for p in range(1, 11)), state_bytes=s, config=config("GLA")) for s in (64, 128)
    ]
    (panel,) = plots.frontier(runs).axes
    assert panel.get_title() == "mqar: mean of 10 settings" and curve(panel, "GLA")[0][0] == (64, pytest.approx(0.275))


def test_many_tasks_are_shown_by_their_means_alone():
    rows = [mqar(p, 64, 0.5, task=f"task{t}") for t in range(9) for p in (1, 2)]
    panels = plots.frontier([report(*rows, state_bytes=s, config=config("GLA")) for s in (64, 128)]).axes
    assert [panel.get_title() for panel in panels] == [f"task{t}: mean of 2 settings" for t in range(9)]


def test_one_size_is_no_frontier():
    assert plots.frontier(RUNS[1:3]) is None
    assert plots.frontier([report({"task": "text", "loss": 1.0}), *RUNS[:1]]) is None


def test_the_rows_of_a_benchmark_are_drawn_as_before():
    rows = [
        {"line": "GLA", "state_bytes": 1024, "64/4": 0.5, "128/8": 0.25, "seed": 0},
        {"line": "GLA", "state_bytes": 1024, "64/4": 0.7, "128/8": 0.25, "seed": 1},
    ]
    first, second = draw_frontier(rows, title="a title").axes
    assert (first.get_title(), second.get_title()) == ("length/pairs 64/4", "length/pairs 128/8")
    assert curve(first, "GLA") == ([(1024, pytest.approx(0.6))], [(pytest.approx(0.5), pytest.approx(0.7))])
