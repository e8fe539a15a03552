"""Numbers that others published on the tasks of this library, for a table of their own beside ours.

None of them is drawn, averaged or ranked with ours: model size, data, tokenizer, training and prompt differ.
Every row says where it was read and under which protocol it was measured; a table says what makes it not comparable.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

GATED_DELTA_NETWORKS = "https://arxiv.org/abs/2412.06464"
DELTA_NET = "https://arxiv.org/abs/2406.06484"
MIXTURE_OF_MEMORIES = "https://arxiv.org/abs/2502.13685"
JUST_READ_TWICE = "https://arxiv.org/abs/2407.05483"
ZOOLOGY = "https://github.com/HazyResearch/zoology"  # at commit d88d6f5

RECALL = ("SWDE", "SQuAD", "FDA", "TQA", "NQ", "DROP", "average")


class Row(NamedTuple):
    """Attributes:
    model: as the source names it.
    scale: parameters/training tokens, or the size of the state; "" where the protocol says it.
    values: one per column of the table, with the digits of the source.
    """

    model: str
    scale: str
    values: tuple[str, ...]


class Table(NamedTuple):
    """Attributes:
    title: what is listed.
    tasks: regular expression that the names of the tasks of a report match where the table stands beside them.
    columns: what is measured, with `unit`.
    unit: of the numbers.
    source: which paper and table.
    address: where it can be read.
    name: of the protocol, in a few words, for every row.
    protocol: how the numbers were measured.
    caveat: why a number of ours that stands near one of these does not mean the same.
    rows: the numbers.
    """

    title: str
    tasks: str
    columns: tuple[str, ...]
    unit: str
    source: str
    address: str
    name: str
    protocol: str
    caveat: str
    rows: tuple[Row, ...]


def matching(tasks: Iterable[str]) -> list[Table]:
    """The tables of which a task of a report (its rows' "task") is the subject, in the order of `TABLES`."""
    names = list(tasks)
    return [table for table in TABLES if any(re.fullmatch(table.tasks, name) for name in names)]


def _rows(scale: str, columns: int, text: Mapping[str, str]) -> tuple[Row, ...]:
    """Rows from {model: numbers between blanks}; refuses a line of another length."""
    rows = {model: tuple(line.split()) for model, line in text.items()}
    for model, values in rows.items():
        if len(values) != columns:
            raise ValueError(f"{model}: {len(values)} numbers for {columns} columns")
    return tuple(Row(model, scale, values) for model, values in rows.items())


def _points(scale: str, text: Mapping[str, str]) -> tuple[Row, ...]:
    """Rows from {model: size and accuracy of each of its points}."""
    words = {model: line.split() for model, line in text.items()}
    return tuple(
        Row(model, scale, point) for model, each in words.items() for point in zip(each[::2], each[1::2], strict=True)
    )


_NEEDLES = tuple(
    f"S{task}, {length}K" for task, lengths in ((1, "1248"), (2, "1248"), (3, "124")) for length in lengths
)
_RECALL_TASKS = (
    r"harness/(xquad_cloze(_twice)?|cloze(_twice)?(:.*)?|swde|fda|squad_completion"
    r"|based_(swde|fda|squad|drop|triviaqa|nq).*)"
)
_RECALL_CAVEAT = (
    "Models trained on web text with a tokenizer of 32,000 words or more. The six sets are not part of this project; "
    "other questions, another tokenizer or another window of the document give other numbers by tens of points; so did "
    "a correction of the harness's own swde, fda and squad_completion (lm-evaluation-harness, pull request 3795)."
)

TABLES: tuple[Table, ...] = (
    Table(
        title="The six MAD tasks",
        tasks=r"mad_.*",
        columns=(
            "compression",
            "fuzzy recall",
            "in-context recall",
            "memorization",
            "noisy recall",
            "selective copying",
            "average",
        ),
        unit="%",
        source="DeltaNet (Yang et al., 2024), MAD table",
        address=DELTA_NET,
        name="MAD, best of a sweep, macro accuracy",
        protocol="4 layers, width 128, 12,800 rows for 200 epochs, best of 6 pairs of learning rate and decay, macro "
        "accuracy of a batch, mean over all settings of a task",
        caveat="Our rows are one setting and one learning rate each, and our mad_compression is another task: a "
        "language model repeats the row, theirs is an autoencoder. A repetition in MetaLA (arXiv 2411.10741, "
        "table A6) is up to 3 points away from these averages.",
        rows=_rows(
            "4 layers",
            7,
            {
                "Transformer": "51.6 29.8 94.1 85.2 86.8 99.6 74.5",
                "Hyena": "45.2 7.9 81.7 89.5 78.8 93.1 66.0",
                "Multihead Hyena": "44.8 14.4 99.0 89.4 98.6 93.0 73.2",
                "Mamba": "52.7 6.7 90.4 89.5 90.1 86.3 69.3",
                "GLA": "38.8 6.9 80.8 63.3 81.6 88.6 60.0",
                "DeltaNet": "42.2 35.7 100 52.8 100 100 71.8",
            },
        ),
    ),
    Table(
        title="Single needles of RULER",
        tasks=r"needles|harness/(niah|niah_single_[123])",
        columns=_NEEDLES,
        unit="%",
        source="Gated Delta Networks, table 2",
        address=GATED_DELTA_NETWORKS,
        name="RULER, zero-shot, generated",
        protocol="RULER single 1, 2, 3, zero-shot, 128 tokens generated, share of the values found in them; lengths in "
        "tokens, haystack of essays",
        caveat="Our lengths are bytes, our haystack is another text, and our values are scored byte by byte. The same "
        "models in arXiv 2605.22791 differ from these numbers by several tens of points: the prompt matters.",
        rows=_rows(
            "1.3B/100B",
            11,
            {
                "DeltaNet": "97.4 96.8 99.0 98.8 98.4 45.6 18.6 14.4 85.2 47.0 22.4",
                "Mamba2": "99.2 98.8 65.4 30.4 99.4 98.8 56.2 17.0 64.4 47.6 4.6",
                "Gated DeltaNet": "98.4 88.4 91.4 91.8 100 99.8 92.2 29.6 86.6 84.2 27.6",
            },
        ),
    ),
    Table(
        title="Recall from real text, 2K tokens",
        tasks=_RECALL_TASKS,
        columns=RECALL,
        unit="%",
        source="Gated Delta Networks, table 4 (second-hand)",
        address=GATED_DELTA_NETWORKS,
        name="cloze, 2K, answer contained",
        protocol="cloze, document cut to 2K tokens, greedy, at most 48 tokens, answer contained in the line, case "
        "ignored",
        caveat=_RECALL_CAVEAT,
        rows=_rows(
            "1.3B/100B",
            7,
            {
                "RetNet": "14.0 28.5 7.0 54.4 16.2 17.3 22.9",
                "HGRN2": "8.3 25.3 4.8 51.2 14.2 16.9 20.1",
                "Mamba": "9.8 25.8 3.7 54.3 14.9 17.4 21.0",
                "Mamba2": "19.1 33.6 25.3 61.0 20.8 19.2 29.8",
                "DeltaNet": "17.9 30.9 18.4 53.9 17.3 18.6 26.2",
                "Gated DeltaNet": "25.4 34.8 23.7 60.0 20.0 19.8 30.6",
                "Transformer++": "29.5 38.0 52.2 58.3 22.5 21.6 37.0",
                "Samba": "33.0 39.2 50.5 57.7 23.5 20.2 37.4",
                "Gated DeltaNet-H1": "35.6 39.7 52.0 60.1 24.6 22.5 39.0",
                "Gated DeltaNet-H2": "38.2 40.4 50.7 63.3 24.8 23.3 40.1",
            },
        ),
    ),
    Table(
        title="Recall from real text, 2K tokens, with mixtures of memories",
        tasks=_RECALL_TASKS,
        columns=("FDA", "SWDE", "SQuAD", "NQ", "TQA", "DROP", "average"),
        unit="%",
        source="MoM, table 2",
        address=MIXTURE_OF_MEMORIES,
        name="cloze, 2K, answer contained",
        protocol="as above: context of 2,048 tokens, 48 of them for the answer",
        caveat=_RECALL_CAVEAT
        + " A later version of the paper has 380M models with other numbers (MoM 28.16 on average "
        "where 27.59 stands here): the order is what can be relied on.",
        rows=_rows(
            "340M/15B",
            7,
            {
                "Transformer++": "46.14 25.87 33.22 18.94 45.97 20.03 31.70",
                "RetNet": "5.90 9.28 22.41 6.91 40.05 18.59 17.19",
                "HGRN2": "11.53 17.34 24.08 12.67 43.84 17.35 21.14",
                "GLA": "11.26 16.78 27.85 12.77 43.90 17.68 21.71",
                "GSA": "6.36 16.87 21.90 14.60 42.18 16.72 19.77",
                "Gated DeltaNet": "20.53 23.24 28.55 14.98 44.91 16.48 24.78",
                "MoM": "30.79 26.05 29.63 13.84 44.79 20.41 27.59",
            },
        )
        + _rows(
            "1.3B/100B",
            7,
            {
                "Transformer++": "44.32 32.43 42.59 24.49 58.47 21.56 37.31",
                "RetNet": "13.62 22.59 33.46 15.43 53.79 19.79 26.45",
                "HGRN2": "12.35 23.24 33.19 19.10 55.27 19.65 27.13",
                "GLA": "27.61 30.93 35.04 22.27 56.28 19.45 31.93",
                "GSA": "23.25 32.80 35.57 22.96 57.05 20.65 32.05",
                "Gated DeltaNet": "30.25 27.65 34.06 23.22 58.23 20.36 32.30",
                "MoM": "41.14 34.30 37.08 24.11 58.59 21.03 36.04",
            },
        ),
    ),
    Table(
        title="Recall from real text read once and twice, mean of the six sets",
        tasks=_RECALL_TASKS,
        columns=("read once", "read twice"),
        unit="%",
        source="Just Read Twice, table 1",
        address=JUST_READ_TWICE,
        name="cloze, 1K around the answer, answer contained",
        protocol="cloze, document cut to 1,000 tokens around the answer, greedy, at most 48 tokens, answer contained; "
        "twice: the document stands in the prompt two times",
        caveat=_RECALL_CAVEAT,
        rows=(
            Row("Transformer++", "1.3B/50B", ("47.8", "57.8")),
            Row("Mamba", "1.3B/50B", ("34.7", "46.5")),
            Row("Based", "1.3B/50B", ("40.3", "51.8")),
            Row("GLA", "1.3B/100B", ("36.7", "48.9")),
            Row("Mamba", "130M/300B", ("24.7", "36.5")),
            Row("Mamba2", "130M", ("29.1", "42.0")),
            Row("Mamba2", "370M", ("39.7", "50.9")),
            Row("Mamba2", "1.3B", ("46.7", "55.6")),
            Row("Mamba2", "2.7B", ("48.9", "58.8")),
        ),
    ),
    Table(
        title="Multi-query associative recall over the size of the state",
        tasks=r"mqar",
        columns=("state (numbers)", "accuracy"),
        unit="share of answers",
        source="README of zoology, read off a figure",
        address=ZOOLOGY,
        name="mixed lengths, best of a sweep",
        protocol="rows of 64 to 256 tokens mixed in training, mean accuracy over 64/4, 64/8, 64/16, 128/32, 256/64, "
        "512/128 and 1024/256 (length/pairs), best learning rate, a convolution of width 3 and one "
        "layer (Mamba2: two layers and none)",
        caveat="Read off a figure, to about 0.03. States are counted in numbers and not in bytes. Training lasts "
        "32 epochs of 180,000 rows; shorter training or other lengths give other curves.",
        rows=_points(
            "2 layers",
            {
                "DeltaNet": "9,000 0.79 34,000 0.96 130,000 0.995",
                "Gated DeltaNet": "17,000 0.89 66,000 0.99 260,000 0.99",
                "GLA": "4,800 0.53 18,000 0.77 68,000 0.95",
                "RWKV-7": "17,000 0.82 130,000 0.91",
                "Mamba2": "8,000 0.52 16,000 0.69 24,000 0.73 33,000 0.79 65,000 0.83 100,000 0.84",
                "Based": "9,400 0.67 25,000 0.84 40,000 0.91 80,000 0.985",
                "sliding window": "34,000 0.31 66,000 0.51 130,000 0.66 260,000 0.80 520,000 0.94",
            },
        ),
    ),
)
