"""Recall from real text as Just Read Twice, Gated DeltaNet and MoM measure it: a document, a cloze, the answer.

Source: Arora et al., "Just read twice: closing the recall gap for recurrent language models" (2024),
https://arxiv.org/abs/2407.05483, appendix B. Of a document a window of N tokens is kept, centred on the first
occurrence of the answer; what the model writes after it (greedily, 48 tokens, to the end of the line) is right if it
contains the answer, or another name of it, in any case of letters. Answers of one character are left out.

    once     document \\n Question: question \\n Answer:
    twice    question \\n document \\n document \\n Question: question \\n Answer:          (their JRT-prompt)

An item that has a `cloze`, a statement to be completed, ends in that instead of question and "Answer:".

Where we differ and why: the papers' clozes were written by a large language model from the questions, and are theirs;
an item without one is asked its question as it stands. Tokens are those of the run's own tokenizer, the papers' are
GPT-2's; where they are bytes, an answer of more than 47 cannot come (89 of XQuAD's 1,190). A document without the
answer keeps its beginning.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from memjax.data.tokenizers import Tokenizer

WINDOW = 1998
"""Tokens of the document by default: a context of 2048 less the 50 that the papers keep for the answer."""
SHORTEST = 2
"""Characters that an answer must have: shorter ones are found in anything."""


class Item(NamedTuple):
    """Attributes:
    context: the document.
    question: what is asked; may be "" where there is a cloze.
    answers: the answer, then its other names; each at least `SHORTEST` characters.
    cloze: a statement that lacks its end, the answer; "" where the question is asked as it stands.
    """

    context: str
    question: str
    answers: tuple[str, ...]
    cloze: str = ""


def read(path: str | Path) -> list[Item]:
    """The items of a JSONL file, those without an answer that counts left out.

    A line is an object with `context`; `answer` or `answers`, a text or a list of them; `question` or `cloze`, or both.
    Raises FileNotFoundError or ValueError, in one line that names the file's line.
    """
    if not Path(path).expanduser().is_file():
        raise FileNotFoundError(f"cloze: no such file: {path}")
    items = []
    for number, line in enumerate(Path(path).expanduser().read_text(encoding="utf-8").split("\n"), start=1):
        if line.strip():
            items.append(_item(line, f"cloze: {path}: line {number}"))
    items = [item for item in items if item.answers]
    if not items:
        raise ValueError(f"cloze: {path} holds no item with an answer of at least {SHORTEST} characters")
    return items


def _item(line: str, where: str) -> Item:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is no JSON: {error}") from None
    row = row if isinstance(row, dict) else {}
    texts = [row.get(name) or "" for name in ("context", "question", "cloze")]
    given = row.get("answers", row.get("answer"))
    given = given if isinstance(given, list) else [given]
    answers = [text for text in given if isinstance(text, str)]
    whole = len(answers) == len(given) and all(isinstance(text, str) for text in texts)
    if not whole or not texts[0] or not (texts[1] or texts[2]):
        raise ValueError(f"{where} needs the texts context, question (or cloze), and answer (or answers)")
    context, question, cloze = (text.strip() for text in texts)
    return Item(context, question, usable(answers), cloze)


def usable(answers: Sequence[str]) -> tuple[str, ...]:
    """The answers that count, without white space around them."""
    return tuple(dict.fromkeys(text.strip() for text in answers if len(text.strip()) >= SHORTEST))


def find(text: str, answers: Sequence[str]) -> tuple[int, int] | None:
    """Where the first of `answers` that `text` holds begins and ends, in characters; None where it holds none.

    An answer is looked for as it is written, then in any case of letters.
    """
    for answer in answers:
        for flags in (0, re.IGNORECASE):
            if (found := re.search(re.escape(answer), text, flags)) is not None:
                return found.span()
    return None


def window(text: str, span: tuple[int, int] | None, tokens: int, tokenizer: Tokenizer) -> str:
    """The part of `text` of `tokens` tokens whose middle is that of `span`, or which begins where `text` does.

    Args:
        text: the document.
        span: characters that stand in the middle, as far as the ends of the document allow; all of them are kept if
            they fit, else their beginning. None keeps the beginning of the document.
        tokens: how many tokens to keep; a document that has no more is handed back as it is.
        tokenizer: whose tokens. A character of which the window would hold only some bytes is left out.

    Raises ValueError where `tokens` is not positive.
    """
    if tokens < 1:
        raise ValueError(f"cloze: a window must have at least 1 token, got {tokens}")
    sizes = tokenizer.encode_counted(text)[1]
    if len(sizes) <= tokens:
        return text
    ends = np.cumsum(sizes)  # in bytes
    start = 0
    if span is not None:
        first, last = (int(np.searchsorted(ends, place, side="right")) for place in _bytes(text, span))
        start = first if last - first >= tokens else (first + last + 1) // 2 - tokens // 2
        start = min(max(start, 0), len(sizes) - tokens)
    begin = int(ends[start - 1]) if start else 0
    return text.encode()[begin : int(ends[start + tokens - 1])].decode(errors="ignore")


def _bytes(text: str, span: tuple[int, int]) -> tuple[int, int]:
    """The first and the last byte of a span of characters."""
    before = len(text[: span[0]].encode())
    return before, before + max(1, len(text[slice(*span)].encode())) - 1


def prompt(item: Item, *, copies: int = 1) -> str:
    """What the model reads, ready for the answer: no white space at its end.

    Raises ValueError where `copies` of the document is neither 1 nor 2.
    """
    if copies not in (1, 2):
        raise ValueError(f"cloze: the document stands in the prompt once or twice, not {copies} times")
    end = item.cloze or f"Question: {item.question}\nAnswer:"
    head = [item.question] if copies == 2 and item.question else []
    return "\n".join([*head, *[item.context] * copies, end]).rstrip()


def contains(prediction: str, answers: Sequence[str]) -> bool:
    """Whether `prediction` holds any of the answers, as text and not as a pattern, in any case of letters."""
    return any(re.search(re.escape(answer), prediction, re.IGNORECASE) for answer in answers)
