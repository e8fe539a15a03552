import jax
import numpy as np
import pytest
from flax import nnx

from memjax.evaluation import plots
from memjax.mixers import MinGRUConfig, MixtureOfMemoriesConfig
from memjax.models import LM, BlockConfig, LMConfig
from tests.tolerances import relative_rms

MIXTURE = MixtureOfMemoriesConfig(memories=3, topk=2, heads=1, head_dim=4)


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


@pytest.fixture(scope="module")
def mixed():
    """A model of two layers, the second one a mixture of three memories."""
    blocks = (BlockConfig(mixer=MinGRUConfig(), mlp=None), BlockConfig(mixer=MIXTURE, mlp=None))
    return LM(LMConfig(vocab_size=16, width=8, blocks=blocks, repeats=1), rngs=nnx.Rngs(0))


@pytest.mark.slow
def test_routing_shows_where_tokens_go(mixed):
    tokens = np.arange(12) % 5
    figure = plots.routing(mixed, tokens, layer=1)
    written, probabilities = (panel.images[0].get_array() for panel in figure.axes[:2])
    assert written.shape == probabilities.shape == (3, 12)
    np.testing.assert_allclose(probabilities.sum(0), 1, rtol=1e-5)
    np.testing.assert_allclose(written.sum(0), 1, rtol=1e-5)
    assert ((written > 0).sum(0) == 2).all(), "two of three memories a token"
    np.testing.assert_array_equal(written.argmin(0), probabilities.argmin(0))
    assert [text.get_text() for text in figure.axes[1].get_xticklabels()] == [str(token) for token in tokens]

    # what the layer sees, by the model's own mixer on what its first layer hands on
    @jax.jit
    def seen(tokens):
        x, *_ = mixed.layer(0)(mixed.embed.table[...][tokens[None]], None, segment_ids=None, key=None)
        return mixed.layer(1).mixer(mixed.layer(1).mixer_norm(x)).aux

    aux = seen(tokens)
    shares = [float(aux[f"metric/router_share_{m}"]) for m in range(3)]
    np.testing.assert_allclose((written > 0).mean(1), shares, rtol=1e-5)


@pytest.mark.slow
def test_routing_refuses_what_has_no_router(mixed):
    for fields in ({"layer": 0}, {"layer": 2}, {"layer": -1}, {"layer": 1, "row": 1}):
        with pytest.raises(ValueError, match="routing"):
            plots.routing(mixed, np.arange(6), **fields)
