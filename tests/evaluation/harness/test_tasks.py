"""The local tasks of the harness: what they ask, how they judge, and `--harness` from a name to a row of the report.

Most of them are answered by a `Reader`, which solves them from their prompts alone, and needs no model.
"""

import dataclasses
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from memjax.config import ConfigError
from memjax.data.tokenizers import ByteTokenizer
from memjax.evaluation import HarnessRequest, check_request, evaluate_run
from memjax.evaluation.harness import catalogue, documents, scores
from memjax.tasks import babilong

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is in the extra `eval`")

from lm_eval.api.model import TemplateLM

from memjax.evaluation.harness import running

pytestmark = pytest.mark.slow  # test_scoring.py stands for it in the second row of versions

ROOT = Path(__file__).resolve().parents[3]
SHARED = ROOT.parent / "shared" / "data"
LOCAL = ("lambada_local", "xquad_cloze", "niah", "babilong")


class Reader(TemplateLM):
    """Answers what the local tasks ask by reading the prompt, or says `words`; keeps what it was asked."""

    def __init__(self, words: str | None = None):
        super().__init__()
        self.words, self.asked = words, []

    @property
    def eot_token_id(self):
        return 256

    def tok_encode(self, string, **options):
        return list(string.encode())

    def _loglikelihood_tokens(self, requests, **options):
        self.asked += [texts for texts, _, _ in requests]
        return [(-float(i + 1), i % 2 == 0) for i in range(len(requests))]

    def loglikelihood_rolling(self, requests, **options):
        raise NotImplementedError

    def generate_until(self, requests, **options):
        self.asked += [request.args for request in requests]
        return [self.words if self.words is not None else solve(request.args[0]) for request in requests]


def solve(prompt: str) -> str:
    if "special magic" in prompt:
        asked = re.search(r"for ([^.?]*) mentioned in the provided text (?:is|are)$", prompt)
        assert asked, prompt  # the answer's prefix is the end of the prompt, without a blank behind it
        pairs = re.findall(r"One of the special magic \w+ for (\S+) is: ([\w-]+)\.", prompt)
        names = re.split(r", and |, ", asked[1])
        return " " + ", ".join(value for key, value in pairs if key in names) + "."
    if "\nQuestion: Where is " in prompt and prompt.endswith("\nAnswer:"):
        who = re.findall(r"Question: Where is (\w+)\?", prompt)[-1]
        return " " + re.findall(rf"{who} went to the (\w+)\.", prompt)[-1] + ". Mary went to the kitchen."
    return re.findall(r"\[(.*?)\]", prompt)[-1].upper()  # the answers of the documents below stand in brackets


def write_lines(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    """Small files in the formats of the real ones."""
    folder = tmp_path_factory.mktemp("data")
    texts = [f"Word {i} is what he said, and she said word {i}" for i in range(6)]
    write_lines(folder / "lambada/lambada_test.jsonl", *(json.dumps({"text": text}) for text in texts))
    questions = [
        {"question": f"Which {name}?", "id": name, "answers": [{"text": f"{name} é (a+b)", "answer_start": 0}]}
        for name in ("one", "two", "three")
    ]
    questions.append({"question": "Which digit?", "id": "d", "answers": [{"text": "7", "answer_start": 0}]})
    paragraphs = [
        {"context": f"{'left ' * 30}[{each['answers'][0]['text']}] {'right ' * 30}".strip(), "qas": [each]}
        for each in questions
    ]
    article = {"data": [{"title": "t", "paragraphs": paragraphs}]}
    write_lines(folder / "xquad/xquad.en.json", json.dumps(article))
    places = ("bathroom", "garden", "hallway", "kitchen", "office", "bedroom")
    story = []
    for i, place in enumerate(places):
        other = places[i - 1]
        story += [
            f"1 Mary went to the {other}.",
            f"2 John went to the {other}.",
            f"3 Mary went to the {place}.",
            f"4 Where is Mary? \t{place}\t3",
        ]
    for number in documents.QUESTIONS:
        write_lines(folder / f"babi/en/qa{number}_some-facts_test.txt", *story)
    sentences = [f"This is sentence number {i} of a text that says nothing." for i in range(80)]
    write_lines(folder / "tinyshakespeare/input.txt", " ".join(sentences))
    return folder


def measure(reader, *names, **settings):
    return running.measure(reader, ByteTokenizer(), HarnessRequest(names, **settings), lambda line: None)


def test_every_local_task_has_documents_and_a_file():
    assert set(catalogue.local_names()) == {*documents.BUILDERS, *catalogue.WITH_FILE} > set(LOCAL)


def test_needles_are_asked_with_the_answers_prefix_and_can_be_found(data_dir):
    reader = Reader()
    rows, skipped = measure(reader, "niah", data_dir=str(data_dir), limit=3, harness_lengths=(800, 1500))
    assert not skipped and len(rows) == 16
    assert {(row["variant"], row["length"]) for row in rows} == {
        (variant, length) for variant in documents.needles.VARIANTS for length in (800, 1500)
    }
    for row in rows:
        assert (row["task"], row["accuracy"], row["stderr"], row["examples"]) == ("harness/niah", 1.0, 0.0, 3)
        assert row["axes"] == ["variant", "length"] and 0 <= row["chance"] < 1e-6
        assert "tinyshakespeare" in row["protocol"] and "not comparable" in row["protocol"]
    for prompt, arguments in reader.asked:
        assert prompt.endswith((" mentioned in the provided text is", " mentioned in the provided text are"))
        assert arguments["max_gen_toks"] == 128 and arguments["do_sample"] is False and not arguments["until"]
        assert len(prompt.encode()) < 1500
    rows, _ = measure(Reader("no"), "niah", data_dir=str(data_dir), limit=3, harness_lengths=(800,))
    assert {row["accuracy"] for row in rows} == {0.0}


def test_a_share_of_the_needles_is_a_share_of_the_score():
    found = scores.string_match_all({"answers": ["12345", "Ab-9", "777"]}, [" 12345 and aB-9."])
    assert found == {"accuracy": pytest.approx(2 / 3)}


def test_stories_in_text_can_be_understood(data_dir):
    reader = Reader()
    rows, _ = measure(reader, "babilong", data_dir=str(data_dir), limit=5, harness_lengths=(400,))
    assert [row["number"] for row in rows] == list(documents.QUESTIONS)
    for row in rows:
        assert (row["accuracy"], row["examples"], row["length"]) == (1.0, 5, 400)
        assert row["chance"] == pytest.approx(1 / 6) and "PG19" in row["protocol"]
    for prompt, arguments in reader.asked:
        assert "sentence number" in prompt and prompt.endswith("\nAnswer:") and arguments["max_gen_toks"] == 16
    rows, _ = measure(Reader(" kitchen or office"), "babilong", data_dir=str(data_dir), harness_lengths=(400,))
    assert {(row["accuracy"], row["examples"]) for row in rows} == {(0.0, documents.EXAMPLES)}


def test_the_questions_about_stories_are_the_same_at_every_length(data_dir):
    stories = babilong.BabilongConfig(path=str(data_dir / "babi/en"), split="test")
    there = [babilong._stories.size(story) for story in babilong._stories.fitting(stories)]
    short = max(there) - 1
    request = HarnessRequest(data_dir=str(data_dir), limit=50, harness_lengths=(400, short))
    asked: dict[int, set] = {400: set(), short: set()}
    for row in documents.documents("babilong", request, ByteTokenizer()):
        asked[row["length"]].add((row["number"], row["question"], *row["answers"]))
    assert asked[400] == asked[short]
    used, whole = babilong.available(dataclasses.replace(stories, length=short))
    assert whole == len(there)
    assert 0 < used == sum(size <= short for size in there) < len(there)
    line = documents.protocol("{fitting}", request, ByteTokenizer())
    assert line == f"the {5 * used} of {5 * len(there)} that fit into {short} bytes"


@pytest.mark.parametrize(
    ("written", "answer", "right"),
    [
        (" Kitchen", "kitchen", True),
        (" the kitchen. Not the office.", "kitchen", True),  # the first sentence counts
        (" kitchen, not garden", "kitchen", False),
        (" kitchen\nQuestion: Where is John? Answer: office", "kitchen", True),  # its own examples do not
        (" kitchen <example> garden", "kitchen", True),
        (" of the office the kitchen", "kitchen", True),  # what the question names is no answer
        (" office", "kitchen", False),
        ("", "kitchen", False),
        (" milk and a football", "football,milk", True),
        (" milk", "football,milk", False),
    ],
)
def test_the_only_label(written, answer, right):
    labels = ["Kitchen", "office", "garden", "milk", "football"]
    document = {"question": "What is north of the office?", "labels": labels, "answers": [answer]}
    assert scores.only_label(document, [written]) == {"accuracy": float(right)}


def test_labels_are_the_answers_of_the_file(data_dir):
    path = str(data_dir / "babi/en")
    config = babilong.BabilongConfig(number=2, path=path, split="test", length=300)
    assert babilong.labels(config) == ("bathroom", "bedroom", "garden", "hallway", "kitchen", "office")
    assert babilong.labels(babilong.BabilongConfig()) == tuple(sorted(babilong._stories.PLACES))


def test_last_words(data_dir):
    reader = Reader()
    ((row,), _) = measure(reader, "lambada_local", data_dir=str(data_dir))
    assert reader.asked[2] == ("Word 2 is what he said, and she said word", " 2")
    assert row["accuracy"] == 0.5 and row["examples"] == 6 and row["axes"] == []
    assert row["stderr"] == pytest.approx(math.sqrt(0.25 / 5))
    assert row["perplexity"] == pytest.approx(math.exp(3.5))
    assert row["perplexity_stderr"] == pytest.approx(math.exp(3.5) * math.sqrt(3.5 / 6))
    ((row,), _) = measure(Reader(), "lambada_local", data_dir=str(data_dir), limit=1)
    assert row["examples"] == 1 and row["perplexity"] == pytest.approx(math.e) and "stderr" not in row


@pytest.mark.parametrize("copies", [1, 2])
def test_questions_about_a_window_of_text(data_dir, copies):
    reader, name = Reader(), "xquad_cloze" if copies == 1 else "xquad_cloze_twice"
    ((row,), _) = measure(reader, name, data_dir=str(data_dir), cloze_window=40)
    assert (row["task"], row["contains"], row["examples"]) == (f"harness/{name}", 1.0, 3)  # not the digit
    assert row["window"] == 40 and "tokens (bytes)" in row["protocol"] and "greedy, 48" in row["protocol"]
    for prompt, arguments in reader.asked:
        assert arguments["until"] == ["\n"] and arguments["max_gen_toks"] == 48 and arguments["do_sample"] is False
        window = prompt.split("\n")[copies - 1]
        assert len(window.encode()) == 40 and prompt.count(window) == copies
        assert abs(window.index("[") - len(window[window.index("]") :].encode())) <= 2
    ((row,), _) = measure(Reader("no"), name, data_dir=str(data_dir), limit=2)
    assert (row["contains"], row["examples"]) == (0.0, 2)


def test_tokens_are_those_of_the_run(data_dir, pairs):
    reader, request = Reader(), HarnessRequest(("xquad_cloze",), data_dir=str(data_dir), cloze_window=40)
    ((row,), _) = running.measure(reader, pairs, request, lambda line: None)
    assert row["contains"] == 1.0 and "bytes" not in row["protocol"] and "48 tokens" in row["protocol"]
    windows = [prompt.split("\n")[0] for prompt, _ in reader.asked]
    assert all(39 <= len(pairs.encode(window)) <= 41 < len(window.encode()) for window in windows)


def test_clozes_of_a_file(tmp_path):
    path = tmp_path / "mine.jsonl"
    write_lines(
        path,
        json.dumps({"context": "It is [gold].", "question": "What?", "answer": ["silver", "Gold"]}),
        json.dumps({"context": "It is [lead].", "question": "What?", "answer": "tin"}),
    )
    reader = Reader()
    rows, _ = measure(reader, f"cloze:{path}", f"cloze_twice:{path}")
    assert [(row["task"], row["file"], row["contains"]) for row in rows] == [
        ("harness/cloze", "mine.jsonl", 0.5),
        ("harness/cloze_twice", "mine.jsonl", 0.5),
    ]
    assert reader.asked[0][0] == "It is [gold].\nQuestion: What?\nAnswer:"
    assert reader.asked[2][0] == "What?\nIt is [gold].\nIt is [gold].\nQuestion: What?\nAnswer:"


def test_tasks_of_the_harness_itself(tmp_path, monkeypatch):
    """A task of somebody else's is evaluated as it is; one whose data cannot be had is left out in one line."""
    write_lines(
        tmp_path / "helper.py",
        "import datasets",
        "def documents(**_):",
        "    return {'test': datasets.Dataset.from_list([{'q': str(i), 'a': str(i % 2)} for i in range(5)])}",
        "def unreachable(**_):",
        "    raise ConnectionError('no\\nnetwork')",
        "def broken(**_):",
        "    import no_such_library",
    )
    settings = [
        "output_type: loglikelihood",
        "test_split: test",
        "doc_to_text: '{{q}}'",
        "doc_to_target: ' {{a}}'",
        "metric_list: [{metric: acc, aggregation: mean}, {metric: perplexity, aggregation: perplexity}]",
        "metadata: {version: 3}",
    ]
    names = {}
    for name, function in (("theirs", "documents"), ("far", "unreachable"), ("odd", "broken")):
        names[name] = tmp_path / f"{name}.yaml"
        write_lines(names[name], f"task: {name}", f"custom_dataset: !function helper.{function}", *settings)
    monkeypatch.setattr(catalogue, "harness_names", lambda: names)
    said = []
    request = HarnessRequest(("far", "theirs", "odd"), limit=4)
    rows, skipped = running.measure(Reader(), ByteTokenizer(), request, said.append)
    assert dict(skipped) == {
        "far": "its data could not be fetched: no network",
        "odd": "left out: ModuleNotFoundError: No module named 'no_such_library'",
    }
    assert said[0] == "  far: its data could not be fetched: no network"
    (row,) = rows
    assert (row["task"], row["accuracy"], row["examples"]) == ("harness/theirs", 0.5, 4)
    assert row["stderr"] == pytest.approx(math.sqrt(0.25 / 3)) and row["perplexity"] == pytest.approx(math.exp(2.5))
    assert "version 3" in row["protocol"]
    monkeypatch.setenv("MEMJAX_TRACEBACK", "1")
    with pytest.raises(ConnectionError):
        running.measure(Reader(), ByteTokenizer(), request, said.append)


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        (("lamda_local",), {}, "unknown harness task 'lamda_local': the nearest are lambada_local"),
        (("cloze",), {}, "cloze needs a file"),
        (("niah:x.txt",), {}, "niah takes no file"),
        (("niah",), {"harness_lengths": (300,)}, "--harness-lengths: needles: length 300 is too short"),
    ],
)
def test_a_wrong_request_is_refused_before_a_model_is_loaded(text_run, data_dir, names, settings, message):
    with pytest.raises(ConfigError, match=message):
        check_request(text_run[0], harness=HarnessRequest(names, data_dir=str(data_dir), **settings))


@pytest.mark.parametrize("name", [*LOCAL, "cloze:nothing.jsonl"])
def test_a_missing_file_is_one_line_that_names_it(text_run, tmp_path, name):
    with pytest.raises(FileNotFoundError) as raised:
        check_request(text_run[0], harness=HarnessRequest((name,), data_dir=str(tmp_path)))
    message = str(raised.value)
    assert message.startswith(name.partition(":")[0]) and "\n" not in message
    assert "nothing.jsonl" in message or "--data-dir" in message


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("lambada/lambada_test.jsonl", '{"words": "a b"}', "lambada_local: .* no object with a text"),
        ("lambada/lambada_test.jsonl", '{"text": "alone"}', "lambada_local: .* single word"),
        ("xquad/xquad.en.json", '{"data": [{"paragraphs": 3}]}', "xquad_cloze: .* SQuAD's form"),
    ],
)
def test_a_broken_file_is_one_line(text_run, tmp_path, path, content, message):
    write_lines(tmp_path / path, content)
    name = "lambada_local" if "lambada" in path else "xquad_cloze"
    with pytest.raises(ValueError, match=message):
        check_request(text_run[0], harness=HarnessRequest((name,), data_dir=str(tmp_path)))


def test_the_folder_of_the_data_is_found(tmp_path, monkeypatch):
    """MEMJAX_DATA, ./data, ../shared/data: the first that has the file; --data-dir is the only one."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("MEMJAX_DATA", str(tmp_path / "own"))
    find = lambda **settings: documents.find(HarnessRequest(**settings), "task", "a/b.txt").resolve()
    with pytest.raises(FileNotFoundError, match=r"task: a/b.txt not found in .*own, ./data, ../shared/data"):
        find()
    for folder in (tmp_path / "shared/data", here / "data", tmp_path / "own"):
        write_lines(folder / "a/b.txt", "text")
        assert find() == folder / "a/b.txt"
    assert find(data_dir="data") == here / "data/a/b.txt"
    with pytest.raises(FileNotFoundError, match="not found in elsewhere;"):
        find(data_dir="elsewhere")


def test_only_text_runs_have_a_tokenizer(task_run):
    with pytest.raises(ConfigError, match="--harness needs a run that was trained on text"):
        check_request(task_run[0], harness=["lambada_local"])


def test_without_the_extra(text_run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"lm-evaluation-harness is not installed: pip install .*\[eval\]"):
        check_request(text_run[0], harness=["lambada_local"])


def test_settings_that_cannot_be():
    for settings in ({"limit": -1}, {"harness_lengths": ()}, {"harness_lengths": (0,)}, {"cloze_window": 0}):
        with pytest.raises(ConfigError, match=next(iter(settings)).replace("_", "-")):
            HarnessRequest(("niah",), **settings)


def test_a_report_with_the_harness(text_run, data_dir, tmp_path):
    """All four names on a model: from the run's directory to the rows of its report."""
    directory, said = shutil.copytree(text_run[0], tmp_path / "prose"), []
    settings = {"data_dir": str(data_dir), "limit": 4, "harness_lengths": (800,), "cloze_window": 60}
    report = evaluate_run(directory, harness=HarnessRequest(LOCAL, **settings), say=said.append)
    assert json.loads((directory / "report.json").read_text()) == report
    assert (directory / "report.png").read_bytes().startswith(b"\x89PNG")
    names = ["lambada_local", "xquad_cloze", *["niah"] * 8, *["babilong"] * 5]
    assert [row["task"] for row in report["results"]] == [f"harness/{name}" for name in names]
    for row in report["results"]:
        assert 0 <= row.get("accuracy", row.get("contains")) <= 1 and row["examples"] in (3, 4) and row["protocol"]
    assert report["results"][0]["perplexity"] > 1 and not report["skipped"]
    assert "lm_eval" in report["versions"]
    assert sum("LAMBADA" in line for line in said) == 1  # beside the number


def test_the_harness_alone_leaves_the_runs_own_tasks_out(text_run, data_dir):
    harness = HarnessRequest(("lambada_local",), data_dir=str(data_dir))
    assert check_request(text_run[0], harness=harness) == ()
    assert check_request(text_run[0], names=["text"], harness=harness) == ("text",)
    assert check_request(text_run[0], harness=[]) == ("text",)
    with pytest.raises(ConfigError, match="unknown harness task 'lambada_locale'"):  # a name is no list of letters
        check_request(text_run[0], harness="lambada_locale")


def test_no_other_framework_is_imported(data_dir):
    """The whole way with a model of nobody's, ours imported: offline, and neither torch nor transformers comes in."""
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from memjax.evaluation.harness import HarnessLM
from tests.evaluation.harness.test_tasks import Reader, measure
measure(Reader(), *{LOCAL!r}, data_dir={str(data_dir)!r}, limit=2)
print(*sorted({{"torch", "transformers", "tensorflow"}} & set(sys.modules)))
"""
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real data beside the repository ({SHARED.parent.name}/data)")
def test_the_real_files():
    tokenizer = ByteTokenizer()
    request = HarnessRequest(data_dir=str(SHARED), cloze_window=300)
    assert len(documents.documents("lambada_local", request, tokenizer)) == 5153
    rows = documents.documents("xquad_cloze", request, tokenizer)
    assert len(rows) == 1189  # of 1,190 questions one has an answer of one character
    for row in rows:
        window = row["prompt"].partition("\nQuestion: ")[0]
        assert len(window.encode()) <= 300 and row["answers"][0] in window
    request = HarnessRequest(data_dir=str(SHARED), limit=2, harness_lengths=(1024, 2048))
    assert len(documents.documents("niah", request, tokenizer)) == 2 * 2 * 8
    for row in documents.documents("babilong", request, tokenizer):
        assert row["answers"][0] in row["labels"] and row["question"].endswith("?")
