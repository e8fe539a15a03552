"""Figures of a memory at work, drawn from a signal or a model and not from a report."""

import itertools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from memjax.evaluation import canvas
from memjax.models import LM
from memjax.ops import hippo


def hippo_history(
    signal: Float[np.ndarray, " T"] | None = None, sizes: Sequence[int] = (8, 32, 128), *, method: str = "zoh"
):
    """What LegS remembers of a signal after its last sample, a panel for each state size; a matplotlib `Figure`.

    As the last expression of a notebook's cell the figure shows itself. Every panel has the history in grey and its
    reconstruction from N coefficients over it, with the relative error in its title: RMS(difference) / RMS(signal).
    N numbers hold all of the past, old samples as well as recent ones (HiPPO, Gu et al., arXiv 2008.07669).

    Args:
        signal: [T] samples one step apart; None takes the sum of three tones, 1,000 samples.
        sizes: coefficients N of each panel.
        method: of `memjax.ops.hippo.project`.

    Raises:
        ValueError: an empty or all-zero signal, no size, or as `memjax.ops.hippo.project`.
    """
    signal = _three_tones() if signal is None else np.asarray(signal, np.float32)
    if not signal.any() or not sizes:
        raise ValueError(f"hippo_history: {len(signal)} samples, none but zeros, or no size in {sizes}")
    with canvas.style():
        figure, panels = canvas.new_figure(len(sizes), 1, height=2.7)
        for size, colour, panel in zip(sizes, itertools.cycle(canvas.COLOURS), panels[:, 0], strict=False):
            _history_panel(panel, signal, size, method, colour)
        panels[-1, 0].set_xlabel("time (samples)")
        figure.suptitle(f"HiPPO-LegS: the last of {len(signal):,} states and the past in it", fontsize=13)
    return figure


def _history_panel(panel, signal: np.ndarray, size: int, method: str, colour: str) -> None:
    length = len(signal)
    time = np.arange(1, length + 1)
    kept = hippo.project(jnp.asarray(signal), size, method)[-1]
    # sample k, from 1, is the one around k + 1/2 of a history of length T + 1
    again = np.asarray(hippo.reconstruct(kept, (time + 0.5) / (length + 1)))
    error = np.sqrt(np.mean((again - signal) ** 2) / np.mean(signal**2))
    panel.plot(time, signal, color="0.65", linewidth=3, label="history")
    panel.plot(time, again, color=colour, linewidth=1.5, label="reconstruction")
    panel.set_title(f"N = {size} coefficients: relative error {100 * error:.2g}%")
    panel.set_ylabel("signal")
    panel.margins(x=0.01)
    panel.legend(loc="upper right", ncols=2)
    low, high = panel.get_ylim()
    panel.set_ylim(low, high + 0.2 * (high - low))  # room for the legend above the curves


def _three_tones() -> np.ndarray:
    """One tone within the reach of each default size: about N / pi waves fit N coefficients."""
    t = np.arange(1000) / 1000
    tones = ((1.0, 1.5), (0.5, 7.0), (0.25, 26.0))  # amplitude, waves over the whole signal
    return np.sum([a * np.sin(2 * np.pi * f * t) for a, f in tones], axis=0).astype(np.float32)


def routing(
    model: LM, tokens: Int[np.ndarray, "*B T"], layer: int = 0, *, row: int = 0, labels: Sequence[str] | None = None
):
    """Which token went to which memory of a mixture-of-memories, in one layer; a matplotlib `Figure`.

    Above, a line a memory: filled where the token is written to it, as dark as its weight. Below, the router's
    probabilities before the choice. As the last expression of a notebook's cell the figure shows itself.

    Args:
        model: a language model with a `MixtureOfMemories` among its mixers.
        tokens: [T] or [B, T] token ids.
        layer: which of the model's layers, counted from 0 in the order in which they run.
        row: which row of a batch is drawn.
        labels: a text for each token, drawn below it; None: token ids where there are at most 48, else none.

    Raises:
        ValueError: no such layer or row, or its mixer has no router.
    """
    tokens = np.atleast_2d(np.asarray(tokens))
    if not 0 <= row < len(tokens):
        raise ValueError(f"routing: row {row} of {len(tokens)}")
    probabilities, choice, weights = (np.asarray(x)[0] for x in routes(model, tokens[row : row + 1], layer))
    written = np.zeros_like(probabilities)
    np.put_along_axis(written, choice, weights, axis=1)
    if labels is None:
        labels = [str(token) for token in tokens[row]] if tokens.shape[1] <= 48 else []
    with canvas.style():
        figure, panels = canvas.new_figure(2, 1, height=1.0 + 0.28 * probabilities.shape[1])
        figure.set_size_inches(max(7.5, min(16.0, 0.16 * tokens.shape[1] + 3)), figure.get_figheight())
        titles = "weight of the memories that a token goes to", "the router's probabilities"
        for panel, values, title in zip(panels[:, 0], (written, probabilities), titles, strict=True):
            image = panel.imshow(values.T, aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
            panel.set_yticks(range(values.shape[1]), [f"memory {m}" for m in range(values.shape[1])])
            panel.set_title(title)
            panel.grid(False)
            figure.colorbar(image, ax=panel, pad=0.01)
        if labels:
            panels[-1, 0].set_xticks(range(len(labels)), labels, rotation=90, fontsize=7)
        panels[-1, 0].set_xlabel("token")
        figure.suptitle(f"Mixture-of-memories, layer {layer}: where {tokens.shape[1]} tokens go", fontsize=13)
    return figure


def routes(model: LM, tokens: Int[np.ndarray, "B T"], layer: int):
    """What a layer's router says of tokens [B, T]: probabilities [B, T, M], choice and weights [B, T, k]."""
    count = len(model.config.blocks)
    if not 0 <= layer < count * model.config.repeats:
        raise ValueError(f"routing: layer {layer} of {count * model.config.repeats}")
    last = model.layer(layer)
    route = getattr(last.mixer, "route", None)
    if route is None:
        raise ValueError(f"routing: the mixer of layer {layer} is {type(last.mixer).__name__}, which has no router")
    x = model.before(layer, model.embed.table[...][jnp.asarray(tokens)])
    return route(last.mixer_norm(x))
