"""Figures of what a memory holds, drawn from a signal and not from a report."""

import itertools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from memjax.evaluation import canvas
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
