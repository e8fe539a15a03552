"""bAbI and BABILong: files read as written, invented stories that a reader can answer, facts in order in a text."""

import hashlib
import itertools
import re

import numpy as np
import pytest

from memjax.tasks import _stories, babi, babilong
from memjax.tasks._stories import OBJECTS, PEOPLE, PLACES, Story
from memjax.tasks.babi import BabiConfig
from memjax.tasks.babilong import BabilongConfig

TASKS = {"babi": babi, "babilong": babilong}
FACT = re.compile(rf"({'|'.join(PEOPLE)}) (\w+(?: up| down| to)?) the (\w+)\.")
QUESTION = re.compile(r"\nQuestion: Where (?:is|was) (?:the )?(\w+)(?: before the (\w+))?\?\nAnswer: $")
FILE = """\
1 John travelled to the hallway.
2 Mary journeyed to the bathroom.
3 Where is John? \thallway\t1
4 John moved to the caf\u00e9.
5 Where is John? \tcaf\u00e9\t4
1 Fred took the milk there.
2 What is Fred carrying?\tmilk,football\t1
"""


@pytest.fixture
def folder(tmp_path):
    """bAbI's task 7 of three questions, and a text."""
    (tmp_path / "qa7_counting_train.txt").write_text(FILE, encoding="utf-8")
    (tmp_path / "qa17_other_train.txt").write_text(FILE.replace("John", "Jim"), encoding="utf-8")
    (tmp_path / "text.txt").write_text(" ".join(f"Sentence number {i} of the book." for i in range(200)))
    return str(tmp_path)


def fingerprint(data):
    return hashlib.sha256(b"".join(data[k].astype("<i8").tobytes() for k in ("tokens", "targets"))).hexdigest()[:16]


def text(ids):
    return bytes(int(i) for i in ids if i < 256).decode()


def prompts(data):
    return [text(row[: np.argmax(t >= 0) + 1]) for row, t in zip(data["tokens"], data["targets"], strict=True)]


def reading(prompt):
    """The answer to a question of tasks 1 to 3, found by following everybody through the story."""
    place, carries, history = {}, {}, {}
    for who, deed, what in FACT.findall(prompt):
        if deed.endswith(" to"):
            place[who] = what
            for thing in carries.get(who, ()):
                history[thing].append(what)
        elif deed in ("took", "picked up", "got"):
            carries.setdefault(who, set()).add(what)
            history[what] = history.get(what, []) or [place[who]]
            assert history[what][-1] == place[who], "who takes a thing stands beside it"
        else:
            carries[who].remove(what)
    asked, before = QUESTION.search(prompt).groups()
    if before:
        assert history[asked].count(before) == 1
        return history[asked][history[asked].index(before) - 1]
    return place[asked] if asked in place else history[asked][-1]


def solve(data):
    answers = np.full_like(data["tokens"], -1)
    for prompt, targets, answer in zip(prompts(data), data["targets"], answers, strict=True):
        said = [*reading(prompt).encode(), 256]
        answer[np.flatnonzero(targets >= 0)[0] :][: len(said)] = said
    return answers


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("task", TASKS)
def test_who_reads_an_invented_story_can_answer(task, number):
    config = TASKS[task].Config(number=number, facts=12, length=900)
    data = TASKS[task].generate(np.random.default_rng(0), 40, config)
    assert TASKS[task].score(solve(data), data, config) == {"accuracy": 1.0, "token_accuracy": 1.0}
    rows, positions = np.nonzero(data["targets"] >= 0)
    np.testing.assert_array_equal(data["targets"][rows, positions], data["tokens"][rows, positions + 1])
    assert (data["targets"] == 256).sum(1).tolist() == [1] * 40, "the end of each answer is scored"
    assert (data["targets"] >= 0).sum(1).max() <= TASKS[task].scored(config)
    assert all(len(FACT.findall(prompt)) == 12 for prompt in prompts(data))


def test_guessing_is_at_chance():
    for number in (1, 2, 3):
        stories = [_stories.invent(np.random.default_rng((1, i)), number, 10) for i in range(200)]
        assert {story.answer for story in stories} == set(PLACES)
        rng = np.random.default_rng(2)
        named = [[place for place in PLACES if number < 3 or place not in story.question] for story in stories]
        hits = [story.answer == names[rng.integers(len(names))] for story, names in zip(stories, named, strict=True)]
        assert abs(np.mean(hits) - babi.chance(BabiConfig(number=number))) < 0.08


def test_invented_tasks_ask_about_what_their_number_says():
    for number, asked in ((1, PEOPLE), (2, OBJECTS), (3, OBJECTS)):
        data = babi.generate(np.random.default_rng(3), 40, BabiConfig(number=number))
        found = [QUESTION.search(prompt).groups() for prompt in prompts(data)]
        assert {what for what, _ in found} == set(asked)
        assert all((before is not None) == (number == 3) for _, before in found)
        deeds = {deed for prompt in prompts(data) for _, deed, _ in FACT.findall(prompt)}
        assert len(deeds) == (3 if number == 1 else 9)


def test_a_file_is_read_question_by_question(folder):
    stories = _stories.read(folder, 7, "train", "babi")
    first = ("John travelled to the hallway.", "Mary journeyed to the bathroom.")
    assert stories == (
        Story(first, "Where is John?", "hallway"),
        Story((*first, "John moved to the caf\u00e9."), "Where is John?", "caf\u00e9"),
        Story(("Fred took the milk there.",), "What is Fred carrying?", "milk,football"),
    )
    config = BabiConfig(path=folder, number=7)
    data = babi.generate(np.random.default_rng(4), 6, config)
    rows = [text(row) for row in data["tokens"]]
    assert sorted(rows[:3]) == sorted(rows[3:]) and len(set(rows)) == 3, "each once before any comes again"
    assert "Fred took the milk there.\nQuestion: What is Fred carrying?\nAnswer: milk,football" in rows
    assert babi.scored(config) == len("milk,football") + 1
    assert babi.chance(config) == pytest.approx(1 / 3)
    assert (data["targets"] >= 0).sum(1).max() == babi.scored(config)


def test_what_does_not_fit_is_left_out(folder):
    shortest = len("Fred took the milk there.\nQuestion: What is Fred carrying?\nAnswer: milk,football") + 2
    config = BabiConfig(path=folder, number=7, length=shortest)
    assert len(_stories.fitting(config)) == 1 and babi.chance(config) == 1.0
    assert (babi.generate(np.random.default_rng(0), 2, config)["targets"] == 256).sum() == 2
    with pytest.raises(ValueError, match=f"^babi: length {shortest - 1} is too short.* takes {shortest}$"):
        babi.generate(np.random.default_rng(0), 2, BabiConfig(path=folder, number=7, length=shortest - 1))


@pytest.mark.parametrize("background", [True, False])
def test_facts_stand_in_order_in_the_background(folder, background):
    path = f"{folder}/text.txt" if background else ""
    config = BabilongConfig(path=folder, number=7, background=path, length=700)
    data = babilong.generate(np.random.default_rng(5), 60, config)
    told, places = {s.answer: s.facts for s in _stories.read(folder, 7, "train", "")}, []
    for prompt, row, targets in zip(prompts(data), data["tokens"], data["targets"], strict=True):
        context, rest = prompt.split("\nQuestion: ")
        assert rest.endswith("\nAnswer: ") and (row == 256).sum() < 20, "full up to the last whole word"
        at = [context.index(fact) for fact in told[text(targets[targets >= 0])]]
        assert at == sorted(at)
        places += [position / len(context) for position in at]
        for fact in told[text(targets[targets >= 0])]:
            context = context.replace(f"{fact} " if f"{fact} " in context else f" {fact}", "", 1)
        numbers = [int(i) for i in re.findall(r"number (\d+) of the book", context)]
        assert len(numbers) >= 10 or not background
        assert all((b - a) % 200 == 1 for a, b in itertools.pairwise(numbers)), "in turn, none broken up"
        assert background or set(context.split(". ")[1:-1]) == {
            "The grass is green", "The sky is blue", "The sun is yellow", "Here we go", "There and back again"
        }  # fmt: skip
    assert abs(np.mean(places) - 0.5) < 0.12 and min(places) < 0.1 and max(places) > 0.85


def test_without_room_for_background_a_row_is_as_in_babi(folder):
    (story,) = [story for story in _stories.read(folder, 7, "train", "babi") if "," in story.answer]
    settings = {"path": folder, "number": 7, "length": _stories.size(story)}
    short, plain = (
        TASKS[config.task].generate(np.random.default_rng(6), 2, config)
        for config in (BabilongConfig(**settings), BabiConfig(**settings))
    )
    np.testing.assert_array_equal(short["tokens"], plain["tokens"])
    np.testing.assert_array_equal(short["targets"], plain["targets"])


def test_score_by_hand():
    config = BabiConfig()
    data = babi.generate(np.random.default_rng(7), 4, config)
    answers = solve(data)
    last = [np.flatnonzero(targets >= 0)[-1] for targets in data["targets"]]
    answers[0, last[0]] = ord("s")  # goes on where the answer ends
    answers[1, last[1] - 2] += 1
    total = (data["targets"] >= 0).sum()
    got = babi.score(answers, data, config)
    assert got == pytest.approx({"accuracy": 0.5, "token_accuracy": (total - 2) / total})


@pytest.mark.parametrize(
    "task, number, expected",
    [
        ("babi", 1, "bc8094b081b82b72"),
        ("babi", 2, "7cc86015c263469c"),
        ("babi", 3, "ef674ad3e04be576"),
        ("babilong", 1, "ff3e9f746d1ee2a1"),
        ("babilong", 3, "583697d360fa3a40"),
    ],
)
def test_same_seed_same_rows(task, number, expected):
    data = TASKS[task].generate(np.random.default_rng(8), 3, TASKS[task].Config(number=number))
    assert fingerprint(data) == expected
    empty = TASKS[task].generate(np.random.default_rng(8), 0, TASKS[task].Config(number=number))
    assert empty["tokens"].shape == (0, data["tokens"].shape[1])


def test_axes():
    assert babi.describe(BabiConfig(number=2)) == {"number": 2, "stories": "invented", "facts": 8, "length": 512}
    assert babi.describe(BabiConfig(number=20, path="x")) == {"number": 20, "stories": "babi_train", "length": 512}
    axes = babilong.describe(BabilongConfig(path="x", split="test", background="books/emma.txt"))
    assert axes == {"number": 1, "stories": "babi_test", "length": 1024, "background": "books-emma"}
    assert babilong.describe(BabilongConfig(background="emma.txt"))["background"] == "emma"


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "fields, message",
    [
        ({"number": 4}, "number must lie between 1 and 3 without a path, got 4"),
        ({"number": 21, "path": "x"}, "number must lie between 1 and 20, got 21"),
        ({"number": 0, "path": "x"}, "number must lie between 1 and 20, got 0"),
        ({"facts": 2, "number": 3}, "task 3 needs 3 facts, got facts 2"),
        ({"facts": 0}, "task 1 needs 1 facts, got facts 0"),
        ({"vocab_size": 256}, "vocab_size must be at least 257, got 256"),
        ({"length": 100}, "length 100 is too short for 8 facts"),
    ],
)
def test_impossible_configs(task, fields, message):
    with pytest.raises(ValueError, match=f"^{task}: {message}") as error:
        TASKS[task].Config(**fields)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_shortest_stories_exist(number):
    with pytest.raises(ValueError, match="too short") as error:
        BabiConfig(number=number, facts=number, length=1)
    length = int(re.findall(r"\d+", str(error.value))[-1])
    config = BabiConfig(number=number, facts=number, length=length)
    data = babi.generate(np.random.default_rng(9), 10, config)
    assert babi.score(solve(data), data, config)["accuracy"] == 1.0


def test_files_that_are_missing_or_something_else(folder, tmp_path):
    draw = lambda config: TASKS[config.task].generate(np.random.default_rng(0), 1, config)
    with pytest.raises(FileNotFoundError, match=r"^babi: path .* holds no bAbI file qa7_\*_test\.txt$"):
        draw(BabiConfig(path=folder, number=7, split="test"))
    with pytest.raises(FileNotFoundError, match=r"^babilong: path nowhere holds no bAbI file qa1_\*_train\.txt$"):
        draw(BabilongConfig(path="nowhere"))
    with pytest.raises(FileNotFoundError, match=r"^babilong: background: no such file: nowhere\.txt$"):
        draw(BabilongConfig(background="nowhere.txt"))
    (tmp_path / "qa2_x_train.txt").write_text("1 Mary went home.\nWhere is Mary?\thome\t1\n")
    with pytest.raises(ValueError, match=r"^babi: .*qa2_x_train\.txt: line 2 is no line of a bAbI file$"):
        draw(BabiConfig(path=folder, number=2))
    (tmp_path / "qa3_x_train.txt").write_text("1 Mary went home.\n")
    with pytest.raises(ValueError, match=r"^babi: .*qa3_x_train\.txt holds no question$"):
        draw(BabiConfig(path=folder, number=3))
