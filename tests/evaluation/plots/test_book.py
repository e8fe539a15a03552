import io

import pytest

from memjax.evaluation import plots, published
from tests.evaluation.samples import NASTY, config, everything, log, mqar, report


def test_a_report_has_the_figures_that_its_rows_allow():
    assert [picture.name for picture in plots.pictures([report(mqar(2, 64, 1.0))])] == ["summary"]
    names = [picture.name for picture in plots.pictures([everything()], [log()])]
    assert names == ["summary", "grid", "needles", "positions", "decoding", "emergence"]
    two = [everything(), everything(run="wide", state_bytes=40_000)]
    assert {picture.name for picture in plots.pictures(two, [log()] * 2)} == set(plots.NAMES)


@pytest.fixture(scope="module")
def drawn():
    """{figure: its SVG} of two runs with names that want to be tags or mathematics."""
    two = [everything(run=NASTY), everything(run="_wide", state_bytes=40_000)]
    return {p.name: plots.markup(p.figure, p.name, label=p.title) for p in plots.pictures(two, [log()] * 2)}


def test_names_are_drawn_as_they_are(drawn):
    for name in ("summary", "grid", "needles", "positions", "decoding", "emergence"):
        assert "&lt;b&gt;" in drawn[name] and "<b>" not in drawn[name] and "<script" not in drawn[name], name
    for name in ("summary", "positions", "decoding", "emergence"):
        assert "$x_{$" in drawn[name] and "_wide" in drawn[name], name


def test_no_published_number_is_in_a_figure(drawn):
    """Neither a number nor a model that others published: the tasks are those of every published table but one."""
    tables = published.matching(row["task"] for row in everything()["results"])
    assert len(tables) >= 4
    for svg in drawn.values():
        for table in tables:
            for row in table.rows:
                others = [value for value in row.values if len(value.replace(".", "")) > 3]
                assert not any(f">{word}<" in svg for word in (row.model, table.source, *others))


def test_no_figure_reads_the_published_numbers():
    import ast
    from pathlib import Path

    files = [*Path(plots.__file__).parent.glob("*.py"), Path(published.__file__).with_name("frontiers.py")]
    assert len(files) > 8
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        found = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
        assert not any("published" in ast.unparse(node) for node in found), file


def test_figures_of_many_runs_stay_readable_and_small():
    runs = [
        everything(run=f"{mixer}/seed{seed}", state_bytes=1000 * size, config=config(mixer, seed=seed))
        for size, mixer in enumerate(("S4D", "Mamba2", "GLA", "DeltaNet", "RGLRU"), 1)
        for seed in range(2)
    ]
    pictures = plots.pictures(runs, [log()] * len(runs))
    for picture in pictures:
        width, height = picture.figure.get_size_inches()
        assert width < 20 and height < 24, picture.name
        file = io.BytesIO()
        plots.emit(picture.figure, file)  # a warning of the layout would be an error here
    by_name = {picture.name: picture.figure for picture in pictures}
    assert len(by_name["grid"].axes) == 5 + 1 + 1  # a panel for the seeds of a mixer, one empty, the colours
