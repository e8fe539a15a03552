import re
from xml.etree import ElementTree

import pytest

from memjax.evaluation import canvas, plots
from tests.evaluation.samples import mqar, report


@pytest.fixture(scope="module")
def figure():
    return plots.draw([report(mqar(2, 64, 1.0), mqar(4, 64, 0.5))])


@pytest.fixture(scope="module")
def svg(figure):
    return plots.markup(figure, "one", label='what "it" shows')


def test_the_page_gives_the_colours(svg):
    assert "var(--ink)" in svg and "var(--line-0)" in svg
    assert not re.search(r"#(000000|ffffff|0072b2)", svg)


def test_text_is_text_in_the_fonts_of_the_page(svg):
    assert "key-value pairs</text>" in svg and "font-family" not in svg and "<style" not in svg


def test_nothing_is_loaded_or_named(svg):
    assert "http" not in svg and "xmlns" not in svg and "metadata" not in svg


def test_identifiers_are_the_figures_own_and_lead_somewhere(svg):
    root = ElementTree.fromstring(svg)
    own = [node.get("id") for node in root.iter() if node.get("id")]
    assert own and len(set(own)) == len(own) and all(name.startswith("one-") for name in own)
    wanted = set(re.findall(r'(?:url\(#|href="#)([\w-]+)', svg))
    assert wanted == set(own)
    assert root.get("aria-label") == 'what "it" shows' and root.get("viewBox")


def test_the_same_figure_gives_the_same_markup_and_keeps_its_title(figure, svg):
    assert plots.markup(figure, "one", label='what "it" shows') == svg
    assert "recurrent state" in figure.get_suptitle() and "recurrent state" not in svg


def test_markup_of_many_points_becomes_a_picture(figure):
    image = ElementTree.fromstring(plots.markup(figure, "one", label="a & b", limit=100))
    assert image.tag == "img" and image.get("alt") == "a & b"
    assert (image.get("src") or "").startswith("data:image/png;base64,iVBOR")


def test_the_layout_is_asked_to_hold_more_legend_than_figure():
    panels = canvas.new_figure(1, 2)
    figure, (row,) = panels
    for number in range(40):
        row[0].plot([0, 1], [0, 1], label=f"line {number}")
    before = figure.get_figwidth()
    canvas.legends(figure, row)
    assert figure.get_figwidth() > before
    entries = [text.get_text() for text in row[0].get_legend().get_texts()]
    assert len(entries) == canvas.BESIDE + 1 and entries[-1] == f"and {40 - canvas.BESIDE} more"


@pytest.mark.parametrize(("panels", "columns"), [(1, 1), (3, 3), (4, 2), (5, 3), (8, 3), (9, 3)])
def test_columns_fill_their_rows(panels, columns):
    assert canvas.columns_of(panels, 3) == columns
