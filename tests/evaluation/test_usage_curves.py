"""The figure of a run's memory tables, from a log written here."""

import json

import numpy as np
import pytest

from memjax.evaluation import plots


def write(run_dir, rows):
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run_dir


def logged(step):
    """Two layers of two heads, the second layer without the prefix, and what is not to be drawn."""
    row = {"step": step, "loss": 1.0, "metric/router_unused": 0.5, "eval/layer3/usage/head0/used": 9.0}
    for layer, prefix in ((3, "metric/"), (11, "")):
        for head in (0, 1):
            key = f"{prefix}layer{layer}/usage/head{head}"
            row |= {f"{key}/used": step / 100 + head, f"{key}/used_ceiling": 0.9, f"{key}/mass_50": layer / 100}
            row[f"{key}/kl"] = None if step == 20 else 2.0
    return row


def lines(panel):
    """[(legend entry, line style, colour, points)]"""
    points = lambda line: list(zip(*map(np.ndarray.tolist, line.get_data()), strict=True))
    return [(line.get_label(), line.get_linestyle(), line.get_color(), points(line)) for line in panel.lines]


def test_a_panel_a_metric_and_a_line_a_head(tmp_path):
    figure = plots.usage(write(tmp_path, [{"step": 5, "loss": 2.0}, logged(10), logged(20)]))
    panels = {panel.get_title().split(":")[0]: panel for panel in figure.axes if panel.get_visible()}
    assert list(panels) == ["used", "kl", "mass_50"]
    drawn = lines(panels["used"])
    solid, dashed = ([line for line in drawn if line[1] == style] for style in ("-", "--"))
    names = [f"layer {layer}, head {head}" for layer in (3, 11) for head in (0, 1)]
    assert [line[0] for line in solid] == names
    assert solid[1][3] == [(10, 1.1), (20, 1.2)]
    assert [line[3] for line in dashed] == [[(10, 0.9), (20, 0.9)]] * 4
    assert solid[0][2] == solid[1][2] == dashed[0][2] != solid[2][2], "a colour a layer"
    assert [line[3] for line in lines(panels["kl"])] == [[(10, 2.0)]] * 4, "a null is no point"
    assert "share" in panels["used"].get_ylabel() and "nats" in panels["kl"].get_ylabel()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [*names, "as many rows picked at random"]
    assert figure._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize("rows", [[], [{"step": 1, "loss": 2.0}]])
def test_a_run_without_memory_layers_is_refused(tmp_path, rows):
    with pytest.raises(ValueError, match="logged no use of a table"):
        plots.usage(write(tmp_path, rows))
    with pytest.raises(ValueError, match="logged no use of a table"):
        plots.usage(tmp_path / "nowhere")
