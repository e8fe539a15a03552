import pytest

from memjax.evaluation.page.tables import Cell, number, table
from memjax.evaluation.page.tags import Markup, inside, tag


def test_text_is_escaped_and_markup_is_not():
    found = tag("p", "<a> & 'b'", tag("b", "x"), None, [Markup("<br>"), 3], class_='"q"', data_value=1, title=None)
    assert found == '<p class="&quot;q&quot;" data-value="1">&lt;a&gt; &amp; &#x27;b&#x27;<b>x</b><br>3</p>'
    assert tag("meta", charset="utf-8") == '<meta charset="utf-8">'
    assert inside(["a", ["<", None]]) == "a&lt;"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("accuracy", 0.99951, "0.9995"),
        ("accuracy", 1.0, "1.0000"),
        ("chance", 1.1e-7, "1.10e-07"),
        ("chance", 0.0, "0.0000"),
        ("perplexity", 12345.6, "12,346"),
        ("loss", 1e12, "1.00e+12"),
        ("loss", float("nan"), "nan"),
        ("loss", float("-inf"), "-inf"),
        ("examples", 1000, "1,000"),
        ("state_bytes", 20_992, "20.5 KiB"),
    ],
)
def test_numbers_for_the_eye(name, value, words):
    assert number(name, value) == words


def test_a_column_of_numbers_and_nothing_stays_a_column_of_numbers():
    heads = {"a": "first", "b": "second"}
    found = table(heads, [{"a": 1, "b": "x"}, {"a": None, "b": 2}, {"a": Cell("many", 9.5)}])
    assert '<th scope="col" class="number">first</th><th scope="col">second</th>' in found
    assert (
        '<td data-value="" class="number"></td>' in found and '<td data-value="9.5" class="number">many</td>' in found
    )
