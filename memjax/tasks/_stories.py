"""Stories with a question, for `babi` and `babilong`: of bAbI's files, or invented in the style of its tasks 1-3."""

import dataclasses
import functools
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from memjax.tasks import _text
from memjax.tasks._base import TaskConfig, changed

PEOPLE = ("Anna", "Bruno", "Clara", "David")
PLACES = ("attic", "cellar", "library", "stable", "terrace", "workshop")
OBJECTS = ("lamp", "map", "rope")
_DEEDS = {
    "move": ("went to the {}", "moved to the {}", "walked to the {}"),
    "take": ("took the {}", "picked up the {}", "got the {}"),
    "drop": ("dropped the {}", "put down the {}", "left the {}"),
}
INVENTED = 3
"""The tasks whose stories can be invented are 1, 2 and 3."""
NUMBERS = 20
"""The tasks of bAbI."""


class Story(NamedTuple):
    """Facts in the order of time, and a question about them."""

    facts: tuple[str, ...]
    question: str
    answer: str


@dataclasses.dataclass(frozen=True)
class StoryConfig(TaskConfig):
    """Base of the `Config` of a task on stories: where they come from, and how long a row is."""

    task: ClassVar[str] = "stories"

    vocab_size: int = _text.VOCABULARY
    """Number of distinct token ids, at least 257: bytes and the end of the text."""
    length: int = 512
    """Length of a row, in bytes: story, question and answer; longer stories of a file are left out."""
    number: int = 1
    """Which bAbI task, 1 to 20; without `path` 1 to 3: where is a person, where is an object, where was it before."""
    path: str = ""
    """Folder with bAbI's files qa*_train.txt and qa*_test.txt; empty: invented stories in the style of tasks 1-3."""
    split: Literal["train", "test"] = "train"
    """Which of bAbI's files; invented stories have no split, their seeds differ."""
    longest_story: int = 0
    """Bytes of the longest story of a file with its question and answer, so that rows of several lengths ask the same
    questions; 0: whatever fits into a row."""
    facts: int = 8
    """Facts of an invented story; those of bAbI have their own number."""

    def __post_init__(self):
        if self.vocab_size < _text.VOCABULARY:
            raise ValueError(f"{self.task}: vocab_size must be at least {_text.VOCABULARY}, got {self.vocab_size}")
        if self.split not in ("train", "test"):
            raise ValueError(f"{self.task}: split must be train or test, got {self.split!r}")
        if not 0 <= self.longest_story <= self.length:
            raise ValueError(
                f"{self.task}: longest_story must lie between 0 and length {self.length}, got {self.longest_story}"
            )
        last = NUMBERS if self.path else INVENTED
        if not 1 <= self.number <= last:
            without = "" if self.path else " without a path"
            raise ValueError(f"{self.task}: number must lie between 1 and {last}{without}, got {self.number}")
        if self.facts < self.number and not self.path:
            raise ValueError(f"{self.task}: task {self.number} needs {self.number} facts, got facts {self.facts}")
        longest = max(len(fact) + 1 for fact in _sentences()) * self.facts + _longest_question()
        if not self.path and self.length < longest:
            raise ValueError(f"{self.task}: length {self.length} is too short for {self.facts} facts ({longest})")


def draw(rng: np.random.Generator, n: int, config: StoryConfig) -> list[Story]:
    """Draws `n` stories: of a file without replacement until all were drawn, invented ones anew each time.

    Raises FileNotFoundError or ValueError, in one line, where `path` holds no such file, or none that fits a row.
    """
    if not config.path:
        return [invent(rng, config.number, config.facts) for _ in range(n)]
    stories, order = fitting(config), np.zeros(0, np.int64)
    while len(order) < n:
        order = np.concatenate([order, rng.permutation(len(stories))])
    return [stories[i] for i in order[:n]]


def ending(story: Story) -> str:
    """The question, and the answer's prefix."""
    return f"\nQuestion: {story.question}\nAnswer: "


def finish(context: bytes, story: Story) -> tuple[bytes, list[_text.Span]]:
    """The text of a row and the span of its answer, the end of the text included."""
    prompt = context + ending(story).encode()
    text = prompt + story.answer.encode()
    return text, [(len(prompt), len(text) + 1)]


def size(story: Story) -> int:
    """Bytes of a row without background: facts with a blank after each, question, answer and the end."""
    return sum(len(fact.encode()) + 1 for fact in story.facts) + len((ending(story) + story.answer).encode()) + 1


@functools.lru_cache(maxsize=8)
def fitting(config: StoryConfig) -> tuple[Story, ...]:
    """The stories of the config's file that fit into a row, and into `longest_story` bytes."""
    stories = read(config.path, config.number, config.split, config.task)
    name = "longest_story" if config.longest_story else "length"
    room = getattr(config, name)
    found = tuple(story for story in stories if size(story) <= room)
    if not found:
        shortest = min(map(size, stories))
        raise ValueError(f"{config.task}: {name} {room} is too short: the shortest story takes {shortest}")
    return found


@functools.lru_cache(maxsize=8)
def read(path: str, number: int, split: str, task: str) -> tuple[Story, ...]:
    """Every question of a bAbI file with the facts of its story that stand before it (other questions left out).

    A line is `ID fact` or `ID question<tab>answer<tab>supporting facts`; with ID 1 another story begins.
    """
    names = f"qa{number}_*_{split}.txt"
    files = sorted(Path(path).expanduser().glob(names))
    if not files:
        raise FileNotFoundError(f"{task}: path {path} holds no bAbI file {names}")
    stories, facts = [], []
    for i, line in enumerate(files[0].read_text(encoding="utf-8").splitlines(), start=1):
        identity, _, said = line.strip().partition(" ")
        question, *answer = said.split("\t")
        if not identity.isdigit() or not said or len(answer) not in (0, 2):
            raise ValueError(f"{task}: {files[0]}: line {i} is no line of a bAbI file")
        if identity == "1":
            facts = []
        if answer:
            stories.append(Story(tuple(facts), question.strip(), answer[0]))
        else:
            facts.append(said)
    if not stories:
        raise ValueError(f"{task}: {files[0]} holds no question")
    return tuple(stories)


def invent(rng: np.random.Generator, number: int, count: int) -> Story:
    """Invents a story of `count` facts in the style of bAbI's task `number`: people move (1), carry objects (2, 3)."""
    while True:
        facts, place, visited = _live(rng, count, objects=number > 1)
        if number == 1:
            asked = [(f"Where is {who}?", at) for who, at in sorted(place.items())]
        elif number == 2:
            asked = [(f"Where is the {what}?", at[-1]) for what, at in sorted(visited.items())]
        else:  # only where an object has been but once, so that "before" says which time
            moved = [(what, at) for what, at in sorted(visited.items()) if len(at) > 1 and at.count(at[-1]) == 1]
            asked = [(f"Where was the {what} before the {at[-1]}?", at[-2]) for what, at in moved]
        if asked:
            question, answer = asked[int(rng.integers(len(asked)))]
            return Story(tuple(facts), question, answer)


def _live(rng: np.random.Generator, count: int, *, objects: bool) -> tuple[list[str], dict[str, str], dict]:
    """`count` things that people do: the facts, the place of each person, and the places of each object in turn."""
    place: dict[str, str] = {}
    holder: dict[str, str] = {}
    visited: dict[str, list[str]] = {}
    facts = []
    for _ in range(count):
        who = _pick(rng, PEOPLE)
        here = place.get(who)
        own = [what for what in OBJECTS if holder.get(what) == who]
        near = [what for what in OBJECTS if what not in holder and visited.get(what, [here])[-1] == here]
        deeds = ["move", *["take"] * bool(near), *["drop"] * bool(own)] if objects and here else ["move"]
        deed = _pick(rng, deeds)
        if deed == "move":
            what = place[who] = _pick(rng, [other for other in PLACES if other != here])
            for carried in own:
                visited[carried].append(what)
        elif deed == "take":
            what = _pick(rng, near)
            holder[what] = who
            visited.setdefault(what, [place[who]])
        else:
            what = _pick(rng, own)
            del holder[what]
        facts.append(f"{who} {_pick(rng, _DEEDS[deed]).format(what)}.")
    return facts, place, visited


def _pick(rng: np.random.Generator, items) -> str:
    return items[int(rng.integers(len(items)))]


def _sentences() -> list[str]:
    """Every fact that an invented story may tell."""
    things = {"move": PLACES, "take": OBJECTS, "drop": OBJECTS}
    return [
        f"{who} {words.format(what)}."
        for who in PEOPLE
        for deed, wordings in _DEEDS.items()
        for words in wordings
        for what in things[deed]
    ]


def _longest_question() -> int:
    what, at = max(OBJECTS, key=len), max(PLACES, key=len)
    return size(Story((), f"Where was the {what} before the {at}?", at))


def chance(config: StoryConfig) -> float:
    """The accuracy of guessing any answer of the file, or any place (task 3: but the one that the question names)."""
    if config.path:
        return 1 / len({story.answer for story in fitting(config)})
    return 1 / (len(PLACES) - (config.number == INVENTED))


def labels(config: StoryConfig) -> tuple[str, ...]:
    """Every answer of the config's file, those of several parts taken apart, or every place; in alphabetical order."""
    if not config.path:
        return tuple(sorted(PLACES))
    stories = read(config.path, config.number, config.split, config.task)
    return tuple(sorted({part for story in stories for part in story.answer.split(",")}))


def longest_answer(config: StoryConfig) -> int:
    """Bytes of the longest answer, its end included."""
    answers = [story.answer for story in fitting(config)] if config.path else PLACES
    return 1 + max(len(answer.encode()) for answer in answers)


def describe(config: StoryConfig) -> dict[str, str | int]:
    """Which task, whose stories, and the length of a row, in bytes."""
    whose = {"stories": f"babi_{config.split}"} if config.path else {"stories": "invented", "facts": config.facts}
    return {"number": config.number, **whose, "length": config.length, **changed(config, "longest_story")}
