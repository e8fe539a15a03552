"""The page in headless Chromium, where there is one; its twin without a browser is test_page.py."""

import io

import numpy as np
import pytest
from matplotlib.image import imread

from memjax.evaluation import plots
from memjax.evaluation.page import page
from tests.evaluation.browser import CHROMIUM, chromium
from tests.evaluation.samples import NASTY, config, everything

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    runs = [everything(run=NASTY), everything(run="b", state_bytes=64, config=config("S4D", seed=1))]
    path = tmp_path_factory.mktemp("page") / "report.html"
    figures = {"frontier": plots.frontier(runs), "grid": plots.grid(runs), "decoding": plots.decoding(runs)}
    pictures = [plots.Picture(name, name, "a caption", figure) for name, figure in figures.items()]
    path.write_text(page(runs, pictures, content={"results": []}), encoding="utf-8")
    return path


def column(browser, table, index):
    return browser.run(
        f"[...document.querySelectorAll('table')[{table}].tBodies[0].rows].map(r => r.cells[{index}].textContent)"
    )


def click(browser, table, index):
    """Clicks on the head of a column; returns which way it is sorted then."""
    head = f"document.querySelectorAll('table')[{table}].tHead.rows[0].cells[{index}]"
    return browser.run(f"({head}.querySelector('button').click(), {head}.ariaSort)")


def heads(browser):
    cells = "[...t.tHead.rows[0].cells].map(c => c.textContent)"
    return browser.run(f"[...document.querySelectorAll('table')].map(t => {cells})")


def test_no_script_error_and_no_request(browser, file):
    browser.errors.clear()
    browser.requests.clear()
    browser.open(file)
    assert browser.run("document.querySelectorAll('figure svg').length") == 3
    assert browser.errors == [] and set(browser.requests) == {file.as_uri()}
    assert browser.run("typeof JSON.parse(document.getElementById('report').textContent)") == "object"


def test_a_click_on_a_head_sorts_by_value(browser, file):
    browser.open(file)
    (results,) = [i for i, names in enumerate(heads(browser)) if "pairs" in names]
    accuracy = heads(browser)[results].index("accuracy")
    before = column(browser, results, accuracy)
    assert click(browser, results, accuracy) == "descending"
    assert column(browser, results, accuracy) == sorted(before, key=float, reverse=True)
    assert click(browser, results, accuracy) == "ascending"
    assert column(browser, results, accuracy) == sorted(before, key=float) != before


def test_sizes_are_sorted_as_numbers_and_names_as_words(browser, file):
    browser.open(file)
    assert column(browser, 0, 3) == ["20.5 KiB", "64 B"]
    click(browser, 0, 3)
    assert click(browser, 0, 3) == "ascending"
    assert column(browser, 0, 3) == ["64 B", "20.5 KiB"]  # as words "20.5 KiB" comes first
    assert click(browser, 0, 0) == "ascending"
    assert browser.run("document.querySelectorAll('table')[0].tHead.querySelectorAll('[aria-sort]').length") == 1


def background(browser):
    picture = imread(io.BytesIO(browser.screenshot()))
    assert picture.std() > 0.02
    return float(np.median(picture[..., :3]))


def contrast(browser, selector):
    """How much lighter or darker a text is than its card, 0 to 1."""
    script = """(() => {
        const light = (colour) => colour.match(/[0-9.]+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0) / 765;
        const node = document.querySelector('SELECTOR');
        const style = getComputedStyle(node), card = getComputedStyle(node.closest('figure, .table'));
        return Math.abs(light(node.closest('svg') ? style.fill : style.color) - light(card.backgroundColor));
    })()""".replace("SELECTOR", selector)
    return browser.run(script)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_is_readable_in_light_and_dark(browser, file, dark):
    browser.open(file, dark=dark)
    assert background(browser) < 0.2 if dark else background(browser) > 0.8
    assert min(contrast(browser, selector) for selector in ("td", "th", "figure svg text")) > 0.6


def test_a_narrow_screen_scrolls_tables_and_not_the_page(browser, file):
    browser.open(file, width=400)
    assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.run("[...document.querySelectorAll('.table')].some(t => t.scrollWidth > t.clientWidth)")
