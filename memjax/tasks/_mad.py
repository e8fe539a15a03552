"""What the six MAD tasks share: their metric, their two splits, and how a row of recall is drawn.

Source: Poli et al., "Mechanistic Design and Scaling of Hybrid Architectures" (2024), https://arxiv.org/abs/2403.17844,
and the generators published with it.
"""

import dataclasses
import itertools
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int, Int32

from memjax.tasks._base import Predictions, Rows, TaskConfig

BATCH = 128
"""Rows of a published batch: the published metric is a mean over batches."""


@dataclasses.dataclass(frozen=True)
class MADRecallConfig(TaskConfig):
    """Fields of the three recall tasks."""

    vocab_size: int = 16
    """Number of distinct token ids; published: 16, 32, 64, 128 (16 more for noise)."""
    length: int = 128
    """Published length of a sequence: 128, 256, 512, 1024."""
    split: Literal["train", "test"] = "test"
    """"test" scores values of keys seen before; "train" has every next token as a target. `score` counts the former."""


def check_recall(task: str, config: MADRecallConfig, keys: int, least: int, shortest: int) -> None:
    """Raises ValueError unless there are `least` keys, a length of `shortest`, and a known split."""
    if config.split not in ("train", "test"):
        raise ValueError(f"{task}: split must be 'train' or 'test', got {config.split!r}")
    if config.length < shortest:
        raise ValueError(f"{task}: length must be at least {shortest}, got {config.length}")
    if keys < least:
        raise ValueError(f"{task}: vocab_size {config.vocab_size} leaves {max(keys, 0)} keys, at least {least} needed")


def macro_accuracy(
    predictions: Int[np.ndarray, "B T"], targets: Int[np.ndarray, "B T"], classes: int
) -> tuple[float, float]:
    """Returns macro and micro accuracy, macro as published.

    Macro: in a batch of 128 rows, the mean over token ids of the share of their targets that is right; an id that is
    no target there is left out, unless it is predicted: then it counts as 0. Batches are averaged by their rows.

    Args:
        predictions: the token predicted at each position.
        targets: the right one, or -1 (not scored).
        classes: number of token ids; a prediction outside of them is wrong and of no class.
    """
    sums, hits, scored = 0.0, 0, 0
    for start in range(0, len(targets), BATCH):
        truth = targets[start : start + BATCH]
        there = truth >= 0
        said, truth = predictions[start : start + BATCH][there], truth[there]
        count = lambda tokens: np.bincount(tokens[(tokens >= 0) & (tokens < classes)], minlength=classes)
        right, asked = count(truth[said == truth]), count(truth)
        present = (asked > 0) | (count(said) > 0)
        share = (right[present] / np.maximum(asked[present], 1)).mean()
        sums += float(share) * min(BATCH, len(targets) - start)
        hits, scored = hits + int(right.sum()), scored + len(truth)
    return sums / len(targets), hits / scored


def score_tokens(predictions: Predictions, targets: Int[np.ndarray, "B T"], config: TaskConfig) -> dict[str, float]:
    """Returns "accuracy" (macro, the published metric) and "micro_accuracy" (share of scored tokens that are right)."""
    macro, micro = macro_accuracy(np.asarray(predictions), targets, config.vocab_size)
    return {"accuracy": macro, "micro_accuracy": micro}


def draw_pairs(
    rng: np.random.Generator, length: int, keys: int, values: int, *, noise: int = 0, fraction: float = 0.0
) -> list[int]:
    """Draws one row of recall, token by token in the published order of draws.

    Args:
        rng: the numbers.
        length: tokens of the row, even; the last two are a key seen before and its value.
        keys: ids [0, keys) are keys.
        values: ids [keys, keys + values) are values.
        noise: the next `noise` ids are noise.
        fraction: chance of a pair to be two noise tokens instead.
    """
    worth: dict[int, int] = {}
    row: list[int] = []
    kept = int(rng.integers(length // 2))  # a pair that is not noise
    for i in range(length // 2 - 1):
        alone = not worth and i == length // 2 - 2  # published rows may hold no pair at all, and then there is no row
        if fraction > 0 and i != kept and not alone and rng.random() < fraction:
            row += (keys + values + rng.integers(noise, size=2)).tolist()
            continue
        key = int(rng.integers(keys))
        if key not in worth:
            worth[key] = keys + int(rng.integers(values))
        row += [key, worth[key]]
    last = list(worth)[int(rng.integers(len(worth)))]
    return [*row, last, worth[last]]


def answers(rows: Int[np.ndarray, "B L"], keys: int, values: int) -> Bool[np.ndarray, "B L"]:
    """Returns where a row holds the value of a key that it has seen before; keys and values are runs of tokens.

    Args:
        rows: whole rows, the last value included.
        keys: ids [0, keys) make keys.
        values: ids [keys, keys + values) make values.
    """
    found = np.zeros(rows.shape, bool)
    kinds = np.searchsorted([keys, keys + values], rows, side="right")
    for row, kind, mask in zip(rows.tolist(), kinds.tolist(), found, strict=True):
        seen, key = set(), ()
        for which, run in itertools.groupby(range(len(row)), key=kind.__getitem__):
            places = list(run)
            motif = tuple(row[places[0] : places[-1] + 1])
            if which == 0:
                key = motif
            elif which == 1:
                mask[places] = key in seen
                seen.add(key)
    return found


def as_rows(rows: Int[np.ndarray, "B L"], keys: int, values: int, split: str) -> Rows:
    """Returns "tokens" and "targets", int32 [n, L - 1], of whole rows: a target is the next token, or -1."""
    targets = rows[:, 1:].astype(np.int32)
    if split == "test":
        targets[~answers(rows, keys, values)[:, 1:]] = -1
    return {"tokens": rows[:, :-1].astype(np.int32), "targets": targets}


def answers_of(data: Rows, keys: int, values: int, split: str) -> Int32[np.ndarray, "B T"]:
    """Returns the targets that are answers, -1 elsewhere, of rows of either split."""
    if split == "test":
        return data["targets"]
    whole = np.concatenate([data["tokens"][:, :1], data["targets"]], axis=1)
    return np.where(answers(whole, keys, values)[:, 1:], data["targets"], np.int32(-1))
