import numpy as np
import pytest

from memjax.evaluation import plots
from tests.tolerances import relative_rms


def curves(panel):
    return {line.get_label(): np.asarray(line.get_ydata()) for line in panel.lines}


def test_the_drawn_reconstruction_comes_closer_with_every_size():
    figure = plots.hippo_history(method="bilinear")
    panels = figure.axes
    drawn = [curves(panel) for panel in panels]
    assert [panel.get_title().split()[2] for panel in panels] == ["8", "32", "128"]
    errors = [np.sqrt(np.mean((d["reconstruction"] - d["history"]) ** 2)) for d in drawn]
    spread = np.sqrt(np.mean(drawn[0]["history"] ** 2))
    assert errors[2] < 0.02 * spread and errors[1] < 0.5 * spread
    assert errors[0] > 1.5 * errors[1] > 15 * errors[2]
    assert f"{100 * errors[1] / spread:.2g}%" in panels[1].get_title()
    assert "samples" in panels[-1].get_xlabel()
    assert figure._repr_png_().startswith(b"\x89PNG")  # by which a notebook shows it


def test_any_signal_and_sizes():
    signal = np.linspace(-1.0, 2.0, 50).astype(np.float32)  # a straight line needs two coefficients
    (panel,) = plots.hippo_history(signal, (4,), method="bilinear").axes
    drawn = curves(panel)
    np.testing.assert_array_equal(drawn["history"], signal)
    assert relative_rms(drawn["reconstruction"], signal) < 0.06  # the first samples are what bilinear gets wrong
    for wrong in ((np.zeros(9, np.float32), (4,)), (signal, ())):
        with pytest.raises(ValueError, match="hippo_history"):
            plots.hippo_history(*wrong)
