"""Stories scattered in a long text, after BABILong: the facts of bAbI between the sentences of a background.

Source: Kuratov et al., "BABILong: Testing the Limits of LLMs with Long Context Reasoning-in-a-Haystack" (2024),
https://arxiv.org/abs/2406.10149. A row holds the facts of one bAbI question in their order, each at a random place
between sentences of a text that fills the row, then the question (bytes; `babi` draws the targets):

    The sun is yellow. Anna went to the attic. Here we go. There and back again. The grass is green. Anna took the lamp.
    Bruno moved to the stable. The sky is blue. Anna walked to the cellar. The sun is
    Question: Where is the lamp?
    Answer: cellar

Places are drawn among the gaps between background sentences, with replacement, and sorted: facts may stand together.
The background begins at a random sentence and ends where the row is full, after a whole word. `background` is any text
file (without one the sentences are those of a needle's noise); facts come from bAbI's files in `path`, or are INVENTED
as in `babi`.

Where we differ and why: the published background is PG19, which is not at hand: say beside a score which text it was,
and do not compare it with published ones. Length is bytes, not GPT-2 tokens, and counts everything; there is no
instruction and there are no worked examples before the story, as rows are also trained on. The published score takes
the first sentence of a free answer, whose labels must be exactly the right one; here the answer is predicted byte by
byte, its end included, and must be right as a whole.
"""

import dataclasses
from typing import ClassVar

import numpy as np

from memjax.tasks import _stories, _text
from memjax.tasks._base import Predictions, Rows
from memjax.tasks._per_row import score_answers
from memjax.tasks._stories import StoryConfig


@dataclasses.dataclass(frozen=True)
class BabilongConfig(StoryConfig):
    """Which stories in which text. Raises ValueError where a row cannot hold a story."""

    task: ClassVar[str] = "babilong"

    length: int = 1024
    """Length of a row, in bytes: background, story, question and answer; longer stories of a file are left out."""
    background: str = ""
    """Text file between whose sentences the facts stand; empty: sentences of a needle's noise."""


Config = BabilongConfig


def generate(rng: np.random.Generator, n: int, config: BabilongConfig) -> Rows:
    """Draws `n` rows.

    Args:
        rng: draws the stories, where the background begins, and where the facts stand.
        n: number of rows.
        config: which stories in which text.

    Returns:
        "tokens" and "targets", int32 [n, length]; a target is the next byte of the answer, its end, or -1 (not scored).

    Raises FileNotFoundError or ValueError where `path` or `background` names no such file, or no story fits.
    """
    source = _text.sentences(config.background, "babilong: background")
    rows = []
    for story in _stories.draw(rng, n, config):
        units = _text.stretch(rng, source, config.length - _stories.size(story))
        places = np.sort(rng.integers(len(units) + 1, size=len(story.facts)))
        context = _text.insert(units, [fact.encode() for fact in story.facts], places.tolist())
        rows.append(_stories.finish(context, story))
    return _text.pack(rows, config.length)


def score(predictions: Predictions, data: Rows, config: BabilongConfig) -> dict[str, float]:
    """Scores predicted bytes; the correct beginning of the answer is given to the model.

    Args:
        predictions: [n, T], the byte predicted at each position.
        data: what `generate` returned.
        config: unused here; every task takes it.

    Returns:
        "accuracy": share of rows with the whole answer right; "token_accuracy": share of its bytes, its end included.
    """
    return score_answers(predictions, data)


def scored(config: BabilongConfig) -> int:
    """Returns an upper bound of the scored positions in a row."""
    return _stories.longest_answer(config)


def describe(config: BabilongConfig) -> dict[str, str | int]:
    """Returns the axes that a report shows; "stories" says "invented" or bAbI's split, "background" which text."""
    return {**_stories.describe(config), "background": _text.title(config.background)}


def chance(config: BabilongConfig) -> float:
    """Returns the accuracy of guessing any of the file's answers, or of the invented places that can be right."""
    return _stories.chance(config)


def labels(config: BabilongConfig) -> tuple[str, ...]:
    """Returns every answer that the stories of the config's file have, or the invented ones, in the order of letters.

    An answer of several parts counts as its parts. `length` is not read.
    """
    return _stories.labels(config)


def available(config: BabilongConfig) -> tuple[int, int]:
    """Returns how many questions of the config's file fit into a row, and how many it has; `path` must not be empty."""
    return len(_stories.fitting(config)), len(_stories.read(config.path, config.number, config.split, config.task))
