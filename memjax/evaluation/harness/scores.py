"""How the local tasks judge what a model wrote: `process_results` of the YAML files in tasks/."""

from collections.abc import Sequence
from typing import Any

from memjax.evaluation.harness import cloze

_NEXT_EXAMPLE = ("<context>", "<example>", "question")  # what begins when a model goes on with examples of its own


def contains(document: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
    """1 where what was written holds the answer or another name of it (`cloze.contains`)."""
    return {"contains": float(cloze.contains(results[0], document["answers"]))}


def string_match_all(document: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
    """The share of the answers that what was written holds, in any case of letters: RULER's score."""
    written = results[0].lower()
    found = [answer.lower() in written for answer in document["answers"]]
    return {"accuracy": sum(found) / len(found)}


def only_label(document: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
    """1 where the first sentence names the right answer and no other one that the task knows: BABILong's score.

    What the question itself names does not count as an answer. An answer of several parts, "milk,football", wants all
    of them in any order.
    """
    written = results[0].lower().split(".")[0]
    for mark in _NEXT_EXAMPLE:
        written = written.split(mark)[0]
    asked, labels = document["question"].lower(), {label.lower() for label in document["labels"]}
    named = {label for label in labels if label in written and label not in asked}
    return {"accuracy": float(named == set(document["answers"][0].lower().split(",")))}
