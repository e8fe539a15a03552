"""The page without a browser: its tags are nested, its tables have heads, nothing in it is loaded or run."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from memjax.evaluation import plots, published
from memjax.evaluation.page import page
from memjax.evaluation.page.tags import VOID
from memjax.evaluation.report import joint
from tests.evaluation.samples import NASTY, config, everything, log, mqar, report


class Reader(HTMLParser):
    """Checks that tags are nested as they must be; collects what a test asks for."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        assert "svg" in self.open, f"<{tag}/> is no HTML"
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data

    def attributes(self, name):
        return [attributes[name] for _, attributes in self.tags if attributes.get(name) is not None]


def make(reports, pictures=(), **more):
    content = reports[0] if len(reports) == 1 else joint(reports)
    return page(reports, pictures, content=content, **more)


@pytest.fixture(scope="module")
def single():
    return make([everything(run=NASTY)], pictures=plots.pictures([everything(run=NASTY)], [log()]))


@pytest.fixture(scope="module")
def several():
    runs = [everything(run=f"{NASTY}/1", config=config("GLA"))]
    runs += [everything(run="b", state_bytes=64, config=config("S4D"))]
    pictures = [plots.Picture(name, f"title {name}", NASTY, plots.grid(runs)) for name in ("grid", "again")]
    return make(runs, pictures, links={"b": "b/report.html"})


@pytest.mark.parametrize("which", ["single", "several"])
def test_tags_are_nested_and_identifiers_are_unique(which, request):
    text = request.getfixturevalue(which)
    reader = Reader(text)
    assert text.startswith("<!doctype html>") and len(text) < 1_000_000
    names = reader.attributes("id")
    assert len(set(names)) == len(names)
    assert {address[1:] for address in reader.attributes("href") if address.startswith("#")} <= set(names)


@pytest.mark.parametrize("which", ["single", "several"])
def test_every_table_has_a_head_for_each_of_its_columns(which, request):
    reader = Reader(request.getfixturevalue(which))
    assert len(reader.tables) > 8
    for head, *rows in reader.tables:
        assert rows and all(head) and all(len(row) == len(head) for row in rows)
    heads = [attributes for tag, attributes in reader.tags if tag == "th"]
    assert all(attributes["scope"] == "col" for attributes in heads)


@pytest.mark.parametrize("which", ["single", "several"])
def test_nothing_is_loaded_from_anywhere(which, request):
    text = request.getfixturevalue(which)
    reader = Reader(text)
    links = [attributes.get("href") for tag, attributes in reader.tags if tag == "a"]
    outside = {address for address in links if address and address.startswith("http")}
    assert outside and outside <= {table.address for table in published.TABLES}
    rest = text.replace(" ".join(outside), "")
    for address in outside:
        rest = rest.replace(f'href="{address}"', "")
    assert "http://" not in rest and "https://" not in rest
    assert all(source.startswith("data:") for source in reader.attributes("src"))
    assert not re.search(r"@import|url\((?!#)", text)
    (policy,) = [attributes["content"] for _, attributes in reader.tags if attributes.get("http-equiv")]
    assert policy.startswith("default-src 'none'")


def test_the_one_script_that_may_run_is_the_one_that_sorts(single):
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", single, flags=re.DOTALL)
    (_, embedded), (attributes, sorting) = scripts
    assert attributes == "" and "localeCompare" in sorting
    assert base64.b64encode(hashlib.sha256(sorting.encode()).digest()).decode() in single
    assert json.loads(embedded) == everything(run=NASTY)


@pytest.mark.parametrize("which", ["single", "several"])
def test_names_prompts_and_answers_are_text(which, request):
    text = request.getfixturevalue(which)
    assert "alert(1)</script>" not in text and "<b>&quot;" not in text
    reader = Reader(text)
    assert f"Once {NASTY}" in reader.texts and f" upon {NASTY}" in reader.texts
    assert not any(tag == "script" for tag, attributes in reader.tags[:-1] if "type" not in attributes)


def table_with(reader, *heads):
    (found,) = [table for table in reader.tables if set(heads) <= set(table[0])]
    return [dict(zip(found[0], row, strict=True)) for row in found[1:]]


def test_runs_and_results(several):
    reader = Reader(several)
    runs = table_with(reader, "architecture")
    assert [row["architecture"] for row in runs] == ["GLA", "S4D"] and [row["state"] for row in runs] == [
        "20.5 KiB",
        "64 B",
    ]
    assert runs[1]["run"] == "b" and "b/report.html" in reader.attributes("href")
    rows = table_with(reader, "pairs")
    assert len(rows) == 8 and rows[0] == {
        "run": f"{NASTY}/1",
        "state": "20.5 KiB",
        "pairs": "2",
        "length": "32",
        "accuracy": "0.5000",
        "chance": "0.0078",
        "examples": "10",
    }
    assert [row["depth"] for row in table_with(reader, "variant")][:3] == ["0", "0.5", "1"]
    assert [row["decode ms per token"] for row in table_with(reader, "context")][:2] == ["1.0000", "2.0000"]


def test_a_number_is_sorted_by_its_value_and_a_share_has_a_bar(single):
    cells = [attributes for tag, attributes in Reader(single).tags if tag == "td"]
    shares = [cell for cell in cells if "share" in (cell.get("class") or "")]
    assert {cell["style"] for cell in shares} >= {"--share: 50.0%", "--share: 12.5%"}
    assert all(float(cell["data-value"] or "nan") <= 1 for cell in shares)
    sizes = [cell for cell in cells if (cell.get("title") or "").endswith("bytes")]
    assert {(cell["data-value"], cell["title"]) for cell in sizes} >= {("20992", "20,992 bytes")}


def test_one_protocol_is_said_once_and_several_have_a_column():
    rows = [{"task": "harness/a", "contains": 0.5, "protocol": word * 30} for word in "xy"]
    assert "Protocol: xxx" in make([report(rows[0])]) and "Protocol: xxx" not in make([report(*rows)])
    assert table_with(Reader(make([report(*rows)])), "protocol")[1]["protocol"] == "y" * 30


def test_published_numbers_stand_apart_with_source_and_protocol(single):
    before, _, after = single.partition('<section id="published">')
    reader = Reader(single)
    for table in published.matching(["mqar", "needles", "harness/xquad_cloze"]):
        assert table.caveat.split(". ")[0][:40] in after.replace("&#x27;", "'")
        heads = [found for found in reader.tables if set(table.columns) == set(found[0][4:])]
        assert heads, table.title
        for row in heads[0][1:]:
            named = dict(zip(heads[0][0], row, strict=True))
            assert named["source"] and named["protocol"], row
        sources = [r[2] for found in heads for r in found[1:]]
        assert table.source in sources
    assert "Mamba2" not in before and "Zoology" not in before


def test_without_a_known_task_nothing_published_is_shown():
    text = make([report(mqar(2, 64, 0.5, task="parity"))])
    assert "published" not in text and "continuation" not in text
    assert "parity" in text


def test_configurations_of_several_runs_are_what_they_share_and_what_is_their_own(several):
    texts = Reader(several).texts
    start = texts.index("Configuration that all runs share")
    shared, own = json.loads(texts[start + 1]), json.loads(texts[start + 3])
    assert shared["optimizer.learning_rate"] == 0.01
    assert {run: list(values) for run, values in own.items()} == {
        f"{NASTY}/1": ["model.blocks.0.mixer.class"],
        "b": ["model.blocks.0.mixer.class"],
    }


def test_a_report_of_nothing_is_a_page():
    text = make([report(run="empty", results=[])])
    Reader(text)
    assert "empty" in text
