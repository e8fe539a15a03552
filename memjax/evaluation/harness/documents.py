"""What the local tasks read: files at hand, turned into documents. The YAML files in tasks/ say what is done with them.

Every document is a dictionary of plain values. Those that its task calls axes, and `chance`, go into the report.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from jaxtyping import Int32

from memjax.config import ConfigError
from memjax.data.tokenizers import ByteTokenizer, Tokenizer
from memjax.evaluation.harness import catalogue, cloze
from memjax.evaluation.recall import Rows, make_examples
from memjax.tasks import babilong, needles

if TYPE_CHECKING:
    from memjax.evaluation.harness.request import HarnessRequest

Document = dict[str, Any]

PLACES = ("./data", "../shared/data")
"""Where files are looked for without --data-dir, after $MEMJAX_DATA."""
BACKGROUNDS = ("wikitext-2/test.txt", "tinyshakespeare/input.txt")
"""The text around needles and stories: the first of these that is there."""
QUESTIONS = (1, 2, 3, 4, 5)
"""The tasks of bAbI that are asked for in background text, as in the tables of BABILong."""
EXAMPLES = 100
"""Examples of each setting of niah and babilong, unless --limit says otherwise."""


def documents(name: str, request: "HarnessRequest", tokenizer: Tokenizer) -> list[Document]:
    """The documents of a local task, at most `request.limit` of each setting.

    Raises FileNotFoundError where a file is missing, ValueError where one is broken or a length is too short.
    """
    task, path = catalogue.split(name)
    if task in catalogue.WITH_FILE:
        return _clozes(cloze.read(path), request, tokenizer, task, {"file": Path(path).name})
    return BUILDERS[task](task, request, tokenizer)


def protocol(template: str, request: "HarnessRequest", tokenizer: Tokenizer) -> str:
    """The line that stands beside a score: a task's template, with what this run and these files make of it."""
    values = {
        "tokens": "tokens (bytes)" if isinstance(tokenizer, ByteTokenizer) else "tokens",
        "window": str(request.cloze_window),
    }
    if "{background}" in template:
        values["background"] = find(request, "protocol", *BACKGROUNDS).parent.name
    if "{fitting}" in template:
        shortest, (used, there) = min(request.harness_lengths), _fitting(request)
        values["fitting"] = f"the {used:,} of {there:,} that fit into {shortest:,} bytes"
    return template.format(**values)


def find(request: "HarnessRequest", task: str, *names: str) -> Path:
    """The first of the files `names` that is there, in the folder of the data.

    Raises FileNotFoundError, in one line that begins with `task` and says where they would be.
    """
    places = [*filter(None, [os.environ.get("MEMJAX_DATA")]), *PLACES]
    places = places if request.data_dir is None else [request.data_dir]
    for name in names:
        for place in places:
            if (path := Path(place).expanduser() / name).exists():
                return path
    raise FileNotFoundError(
        f"{task}: {' or '.join(names)} not found in {', '.join(places)}; --data-dir names the folder that has it"
    )


def split_row(tokens: Int32[np.ndarray, "T"], targets: Int32[np.ndarray, "T"]) -> tuple[str, list[str]]:
    """A row of a task on text as a prompt, without the blank at its end, and the answers that are to follow."""
    places = np.flatnonzero(targets >= 0)
    runs = np.split(places, 1 + np.flatnonzero(np.diff(places) > 1))
    return _text(tokens[: places[0] + 1]).removesuffix(" "), [_text(targets[run]) for run in runs]


def _text(ids: Int32[np.ndarray, "T"]) -> str:
    return ByteTokenizer().decode(ids.tolist())


def _lambada(task: str, request: "HarnessRequest", tokenizer: Tokenizer) -> list[Document]:
    path = find(request, task, "lambada/lambada_test.jsonl")
    lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    try:
        rows = [{"text": json.loads(line)["text"]} for line in lines[: request.limit or None]]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{task}: {path} holds a line that is no object with a text: {error}") from None
    if not rows or not all(isinstance(row["text"], str) and " " in row["text"] for row in rows):
        raise ValueError(f"{task}: {path} holds no text, or one of a single word")
    return rows


def _xquad(task: str, request: "HarnessRequest", tokenizer: Tokenizer) -> list[Document]:
    path = find(request, task, "xquad/xquad.en.json")
    try:
        items = [
            cloze.Item(
                paragraph["context"].strip(),
                question["question"].strip(),
                cloze.usable([answer["text"] for answer in question["answers"]]),
            )
            for article in json.loads(path.read_text(encoding="utf-8"))["data"]
            for paragraph in article["paragraphs"]
            for question in paragraph["qas"]
        ]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{task}: {path} is not of SQuAD's form: {type(error).__name__} {error}") from None
    items = [item for item in items if item.answers]
    if not items:
        raise ValueError(f"{task}: {path} holds no question")
    return _clozes(items, request, tokenizer, task, {})


def _clozes(
    items: list[cloze.Item], request: "HarnessRequest", tokenizer: Tokenizer, task: str, axes: Document
) -> list[Document]:
    copies, rows = 2 if task.endswith("_twice") else 1, []
    for item in items[: request.limit or None]:
        span = cloze.find(item.context, item.answers)
        part = item._replace(context=cloze.window(item.context, span, request.cloze_window, tokenizer))
        prompt = cloze.prompt(part, copies=copies)
        rows.append({"prompt": prompt, "answers": list(item.answers), **axes, "window": request.cloze_window})
    return rows


def _niah(task: str, request: "HarnessRequest", tokenizer: Tokenizer) -> list[Document]:
    text = str(find(request, task, *BACKGROUNDS))
    rows = []
    for length in request.harness_lengths:
        for variant in get_args(needles.Variant):
            try:
                config = needles.NeedlesConfig(length=length, variant=variant, haystack=text)
            except ValueError as error:
                raise ConfigError(f"--harness-lengths: {error}") from None
            axes = {"variant": variant, "length": length, "chance": needles.chance(config)}
            rows += [
                {"prompt": prompt, "answers": answers, **axes}
                for prompt, answers in _split_rows(make_examples(config, request.limit or EXAMPLES))
            ]
    return rows


def _babilong(task: str, request: "HarnessRequest", tokenizer: Tokenizer) -> list[Document]:
    rows = []
    for config in _babilong_settings(task, request):
        labels = list(babilong.labels(config))
        axes = {"number": config.number, "length": config.length, "chance": 1 / len(labels)}
        for prompt, (answer,) in _split_rows(make_examples(config, request.limit or EXAMPLES)):
            question = prompt.rpartition("\nQuestion: ")[2].removesuffix("\nAnswer:")
            rows.append({"prompt": prompt, "answers": [answer], "question": question, "labels": labels, **axes})
    return rows


def _babilong_settings(task: str, request: "HarnessRequest") -> list[babilong.BabilongConfig]:
    """Every length with every question; at each length the stories are those that fit into the shortest."""
    common = {
        "path": str(find(request, task, "babi/en")),
        "background": str(find(request, task, *BACKGROUNDS)),
        "longest_story": min(request.harness_lengths),
    }
    return [
        babilong.BabilongConfig(length=length, number=number, split="test", **common)
        for length in request.harness_lengths
        for number in QUESTIONS
    ]


def _fitting(request: "HarnessRequest") -> tuple[int, int]:
    """How many test questions of bAbI `babilong` draws from, and how many there are."""
    settings = _babilong_settings("babilong", request)[: len(QUESTIONS)]  # other lengths draw from the same
    used, there = zip(*map(babilong.available, settings), strict=True)
    return sum(used), sum(there)


def _split_rows(rows: Rows) -> list[tuple[str, list[str]]]:
    return [split_row(*row) for row in zip(rows["tokens"], rows["targets"], strict=True)]


BUILDERS: dict[str, Callable[[str, "HarnessRequest", Tokenizer], list[Document]]] = {
    "lambada_local": _lambada,
    "xquad_cloze": _xquad,
    "xquad_cloze_twice": _xquad,
    "niah": _niah,
    "babilong": _babilong,
}


def dataset(*, name: str, request: "HarnessRequest", tokenizer: Tokenizer, **metadata: Any) -> dict[str, Any]:
    """{"test": the documents of a task} as lm-evaluation-harness reads them: `custom_dataset` of the YAML files."""
    import datasets

    return {"test": datasets.Dataset.from_list(documents(name, request, tokenizer))}
