import re

import pytest

from memjax.evaluation import published


@pytest.mark.parametrize("table", published.TABLES, ids=lambda table: table.title)
def test_every_table_says_where_its_numbers_are_from(table):
    assert table.source and table.name and table.protocol and table.caveat and table.unit
    assert re.match(r"https://(arxiv\.org/abs/\d{4}\.\d{5}|github\.com/\w+/\w+)$", table.address)
    assert table.rows and all(len(row.values) == len(table.columns) for row in table.rows)
    numbers = [float(value.replace(",", "")) for row in table.rows for value in row.values]
    assert all(number > 0 for number in numbers)


@pytest.mark.parametrize(
    "table", [table for table in published.TABLES if table.columns[-1] == "average"], ids=lambda table: table.title
)
def test_averages_are_those_of_their_rows(table):
    """A digit that was copied wrongly shows here. The sources round, and some average before rounding."""
    for row in table.rows:
        *parts, average = map(float, row.values)
        assert abs(sum(parts) / len(parts) - average) < 0.35, row


@pytest.mark.parametrize(
    ("task", "sources"),
    [
        ("mqar", ["README of zoology, read off a figure"]),
        ("mad_compression", ["DeltaNet (Yang et al., 2024), MAD table"]),
        ("needles", ["Gated Delta Networks, table 2"]),
        ("parity", []),
        ("mqar_continuous", []),
        ("text", []),
    ],
)
def test_tables_stand_beside_the_tasks_that_they_are_about(task, sources):
    assert [table.source for table in published.matching([task])] == sources


def test_recall_from_real_text_has_three_tables():
    for name in ("harness/xquad_cloze", "harness/swde", "harness/squad_completion", "harness/based_fda"):
        assert len(published.matching([name])) == 3
    for name in ("lambada_local", "triviaqa", "nq_open", "drop", "catalanqa", "blimp_drop_argument", "xstorycloze_eu"):
        assert not published.matching([f"harness/{name}"])


def test_only_single_needles_stand_beside_single_needles():
    assert all(len(published.matching([f"harness/{name}"])) == 1 for name in ("niah", "niah_single_2"))
    assert not published.matching(["harness/niah_multikey_3", "harness/ruler_cwe"])
