"""bAbI: a short story of simple facts, one question, an answer of a word or two.

Source: Weston et al., "Towards AI-Complete Question Answering: A Set of Prerequisite Toy Tasks" (2015),
https://arxiv.org/abs/1502.05698, whose files (CC BY 3.0) are read from the folder `path`: 20 tasks, `number` says
which. Text is bytes (the byte tokenizer's ids, 256 ends the text and fills the row). A row of task 2:

    Anna went to the attic. Anna took the lamp. Bruno moved to the stable. Anna walked to the cellar.
    Question: Where is the lamp?
    Answer: cellar

    tokens     ...  r  :  _  c  e  l  l  a  r  256  256      _ is the blank
    targets    ...  .  .  c  e  l  l  a  r 256    .    .

The answer's bytes and the end after them are scored, each AT the byte before it: "milk" is wrong where "milk,football"
is right. An answer counts when all of it is right.

Without `path` the stories are INVENTED, in the style of tasks 1 to 3 and with people, places and words of our own:
people move (1), and take, carry and drop objects (2, and 3, which asks for the place before). Their scores are not
those of bAbI; `describe` says "stories": "invented".

Every question of a file is a row, with the facts of its story that stand before it and without the other questions, as
BABILong takes them; drawn without replacement, so that as many rows as the file has questions are the whole file. Rows
longer than `length` are left out (task 3 has stories of 8,000 bytes): give a length that holds them all before
comparing with published errors, which are of word-level models that choose one answer from a list.
"""

import dataclasses
from typing import ClassVar

import numpy as np

from memjax.tasks import _stories, _text
from memjax.tasks._base import Predictions, Rows
from memjax.tasks._per_row import score_answers
from memjax.tasks._stories import StoryConfig


@dataclasses.dataclass(frozen=True)
class BabiConfig(StoryConfig):
    """Which stories. Raises ValueError where a row cannot hold one."""

    task: ClassVar[str] = "babi"


Config = BabiConfig


def generate(rng: np.random.Generator, n: int, config: BabiConfig) -> Rows:
    """Draws `n` rows.

    Args:
        rng: draws which questions of the file, or invents stories.
        n: number of rows.
        config: which stories.

    Returns:
        "tokens" and "targets", int32 [n, length]; a target is the next byte of the answer, its end, or -1 (not scored).

    Raises FileNotFoundError or ValueError where `path` holds no such file, or none of its stories fits.
    """
    stories = _stories.draw(rng, n, config)
    return _text.pack([_stories.finish(" ".join(s.facts).encode(), s) for s in stories], config.length)


def score(predictions: Predictions, data: Rows, config: BabiConfig) -> dict[str, float]:
    """Scores predicted bytes; the correct beginning of the answer is given to the model.

    Args:
        predictions: [n, T], the byte predicted at each position.
        data: what `generate` returned.
        config: unused here; every task takes it.

    Returns:
        "accuracy": share of rows with the whole answer right; "token_accuracy": share of its bytes, its end included.
    """
    return score_answers(predictions, data)


def scored(config: BabiConfig) -> int:
    """Returns an upper bound of the scored positions in a row."""
    return _stories.longest_answer(config)


def describe(config: BabiConfig) -> dict[str, str | int]:
    """Returns the axes that a report shows; "stories" says "invented" or bAbI's split."""
    return _stories.describe(config)


def chance(config: BabiConfig) -> float:
    """Returns the accuracy of guessing any of the file's answers, or of the invented places that can be right."""
    return _stories.chance(config)
