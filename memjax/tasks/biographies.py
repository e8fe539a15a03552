"""Synthetic biographies: who was born when and where, worked where. The facts are in the weights, not in the context.

Sources: bioS of Allen-Zhu and Li, "Physics of Language Models" 3.1 (https://arxiv.org/abs/2309.14316) and 3.3
(https://arxiv.org/abs/2404.05405); Zucchet et al., "How do language models learn facts?" (2025,
https://arxiv.org/abs/2503.21676).

A population of people is a pure function of the config. Each has a full name that nobody shares (first, middle, last)
and six attributes drawn uniformly: birth date (day, month, year), birth city, university, major, employer, work city.
A biography is a separator `|`, the name and six sentences in random order; a sentence is an opening word, one of
`templates` of its attribute, and the value. Drawn with birth year 07, city c3, university u9, major m1, employer e5:

    position   0   1   2   3   4   5   6   7   8   9  10  11  12  13  14  15  16  17     (text, one person)
    tokens     |  Ann Bea Coe  E0  e5  D2  21  05  07  M1  m1  C0  c3  W1  w8  U2  u9    E0: one opening of "employer"
    targets   Ann Bea Coe  E0  e5  D2  21  05  07  M1  m1  C0  c3  W1  w8  U2  u9   |    scored="all"
                .   .   .   .  e5   .  21  05  07   .  m1   .  c3   .  w8   .  u9   .    scored="values"

    tokens     |  Ann Bea Coe  ?D  21  05  07   |  Dan ...                               (question)
    targets     .   .   .   .  21  05  07   .   .   . ...                                scored="values"

Positions are shifted by one: targets[t] is tokens[t + 1], to be predicted AT position t from tokens 0 to t. Rows are
filled with as many whole biographies (18 tokens) or questions (6, of a birth date 8) as fit, of different people, so
that no answer stands in the row; what is left of a row is 0, the separator, and not scored: for text a `length` that is
a multiple of 18 leaves nothing. A smaller population is the beginning of a larger one with the same seed and sizes.

Where we differ from bioS: sentences of one word (there about ten); no pronoun, so no sex of a person; the work city
is drawn by itself (there it follows from the employer and holds no bits of its own); years, cities and so on have
tokens of their own, a token each.
"""

import dataclasses
import functools
import math
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int, Int32

from memjax.tasks._base import Predictions, Rows, TaskConfig, changed

ATTRIBUTES = {"birth_date": 3, "birth_city": 1, "university": 1, "major": 1, "employer": 1, "work_city": 1}
"""The attributes and the number of tokens of a value."""
VALUE_TOKENS = sum(ATTRIBUTES.values())
"""Tokens of all values of a person."""
NAME_TOKENS, DAYS, MONTHS = 3, 28, 12
BIOGRAPHY = 1 + NAME_TOKENS + len(ATTRIBUTES) + VALUE_TOKENS
"""Tokens of a biography, its separator included."""
SHORT, LONG = NAME_TOKENS + 3, NAME_TOKENS + 2 + max(ATTRIBUTES.values())  # tokens of a question with its answer
SEPARATOR = 0
_OF_TOKEN = np.repeat(np.arange(len(ATTRIBUTES)), list(ATTRIBUTES.values()))  # attribute of each value token


@dataclasses.dataclass(frozen=True)
class BiographiesConfig(TaskConfig):
    """Which people, and which rows about them. The defaults of the sizes are those of bioS, but for `people`."""

    vocab_size: int = 8192
    """Number of distinct token ids; `vocabulary` says how many a config needs."""
    length: int = 4 * BIOGRAPHY
    """Length of a row, in tokens; a biography has 18, a question and its answer 6 or 8."""
    form: Literal["text", "question"] = "text"
    """Biographies, or a name with the question for one attribute."""
    scored: Literal["all", "values"] = "all"
    """Train every next token, or those of attribute values only; `score` always counts values only."""
    people: int = 1000
    """Size of the population, N."""
    population_seed: int = 0
    """Seed of names and facts; the rng that draws examples has no part in them."""
    power: float = 0.0
    """Exponent of the power law of people's frequencies, rank ** -power, from 0 (all alike) to 2."""
    templates: int = 8
    """Opening words that a sentence of an attribute may have."""
    first_names: int = 400
    """Different first names."""
    middle_names: int = 400
    """Different middle names."""
    last_names: int = 1000
    """Different last names."""
    birth_years: int = 200
    """Different years of birth; days are 28, months 12."""
    birth_cities: int = 200
    """Different cities of birth."""
    universities: int = 300
    """Different universities."""
    majors: int = 100
    """Different majors."""
    employers: int = 263
    """Different employers."""
    work_cities: int = 200
    """Different cities of work."""

    def __post_init__(self):
        for name in ("people", "templates", *_POOLS):
            if getattr(self, name) < 1:
                raise ValueError(f"biographies: {name} must be positive, got {getattr(self, name)}")
        if self.form not in ("text", "question") or self.scored not in ("all", "values"):
            raise ValueError(f"biographies: no form {self.form!r} with scored {self.scored!r}")
        if self.population_seed < 0:
            raise ValueError(f"biographies: population_seed must not be negative, got {self.population_seed}")
        if not 0 <= self.power <= 2:
            raise ValueError(f"biographies: power must lie between 0 and 2, got {self.power}")
        if (names := self.first_names * self.middle_names * self.last_names) < self.people:
            raise ValueError(f"biographies: {names} full names are too few for {self.people} people")
        if (needed := vocabulary(self)) > self.vocab_size:
            raise ValueError(f"biographies: needs a vocab_size of at least {needed}, got {self.vocab_size}")
        if (least := BIOGRAPHY if self.form == "text" else LONG) > self.length:
            raise ValueError(f"biographies: length must be at least {least} for a {self.form}, got {self.length}")
        if self.people < (most := _most(self)):
            raise ValueError(f"biographies: a row has up to {most} different people, but people is {self.people}")


Config = BiographiesConfig
_PARTS = ("birth_years", "birth_cities", "universities", "majors", "employers", "work_cities")
_POOLS = ("first_names", "middle_names", "last_names", *_PARTS)


class Population(NamedTuple):
    """The people, as token ids; row i is the person of frequency rank i + 1. Read-only.

    Attributes:
        names: first, middle and last name.
        values: day, month and year of birth, birth city, university, major, employer, work city.
    """

    names: Int32[np.ndarray, "N 3"]
    values: Int32[np.ndarray, "N 8"]


def parts(config: BiographiesConfig) -> tuple[int, ...]:
    """Returns how many different tokens each of the eight value tokens can be."""
    return (DAYS, MONTHS, *(getattr(config, name) for name in _PARTS))


def possible(config: BiographiesConfig) -> dict[str, int]:
    """Returns the number of possible values of each attribute: 28 * 12 * birth_years dates, birth_cities, ..."""
    date, others = parts(config)[:3], parts(config)[3:]
    return dict(zip(ATTRIBUTES, (math.prod(date), *others), strict=True))


def vocabulary(config: BiographiesConfig) -> int:
    """Returns the number of token ids in use."""
    return _starts(config)[-1]


@functools.lru_cache(maxsize=64)
def _starts(config: BiographiesConfig) -> tuple[int, ...]:
    """First id of each kind of token (see `_FIRST_NAME` and on), and the end of the last kind."""
    names = (config.first_names, config.middle_names, config.last_names)
    sizes = (1, *names, len(ATTRIBUTES) * config.templates, len(ATTRIBUTES), *parts(config))
    return tuple(np.cumsum((0, *sizes)).tolist())


_FIRST_NAME, _OPENING, _QUESTION, _VALUE = 1, 4, 5, 6  # kinds of tokens; 0 is the separator


def attribute_of(tokens: Int[np.ndarray, "*shape"], config: BiographiesConfig) -> Int[np.ndarray, "*shape"]:
    """Returns the number of the attribute (in the order of `ATTRIBUTES`) whose value a token belongs to, or -1."""
    part = np.searchsorted(_starts(config)[_VALUE:-1], tokens, side="right") - 1
    return np.where((part >= 0) & (tokens < vocabulary(config)), _OF_TOKEN[part], -1)


@functools.lru_cache(maxsize=8)
def population(config: BiographiesConfig) -> Population:
    """Returns the people of `config`: of its seed, sizes and `people` alone, the same on every machine."""
    starts, pools = _starts(config), (config.first_names, config.middle_names, config.last_names)
    stream = lambda number: np.random.default_rng(np.random.SeedSequence(config.population_seed, spawn_key=(number,)))
    codes = _distinct(stream(0), config.people, math.prod(pools))
    names = np.stack(np.unravel_index(codes, pools), axis=1) + np.array(starts[_FIRST_NAME:_OPENING])
    facts = [stream(1 + i).integers(size, size=config.people) for i, size in enumerate(parts(config))]
    people = Population(names.astype(np.int32), (np.stack(facts, 1) + np.array(starts[_VALUE:-1])).astype(np.int32))
    for array in people:
        array.flags.writeable = False
    return people


def _distinct(rng: np.random.Generator, count: int, limit: int) -> Int[np.ndarray, "N"]:
    """The first `count` different numbers below `limit` of a stream."""
    drawn = np.zeros(0, np.int64)
    while len(drawn) < count:
        drawn = np.concatenate([drawn, rng.integers(limit, size=count)])
        drawn = drawn[np.sort(np.unique(drawn, return_index=True)[1])]
    return drawn[:count]


def frequencies(config: BiographiesConfig) -> np.ndarray:
    """Returns how often each person is drawn, float64 [N], of sum 1 (people of one row differ, which evens it out)."""
    weights = np.arange(1, config.people + 1) ** -float(config.power)
    return weights / weights.sum()


def generate(rng: np.random.Generator, n: int, config: BiographiesConfig) -> Rows:
    """Draws `n` rows.

    Args:
        rng: draws people, the order of sentences, their opening words, or the attribute that is asked.
        n: number of rows.
        config: which people and rows.

    Returns:
        "tokens" and "targets", int32 [n, length]; a target is the next token, or -1 (not scored).
    """
    people = _draw_people(rng, n, _most(config), config)
    if config.form == "text":
        items = _biographies(rng, people.reshape(-1), config)
    else:
        items = _questions(people.reshape(-1), rng.integers(len(ATTRIBUTES), size=people.size), config)
    return _pack(items.reshape(*people.shape, items.shape[-1]), config.length, config)


def about(rng: np.random.Generator, people: Int[np.ndarray, "P"], config: BiographiesConfig) -> Rows:
    """Returns rows about given people, values scored: a biography each, or (form "question") all six questions each.

    Args:
        rng: draws order and opening words of sentences.
        people: who, as row numbers of the population.
        config: which population and which form.

    Returns:
        "tokens" and "targets", int32 [P, 18] for text; [6 * P, 8] for questions, the six of a person in turn.
    """
    if config.form == "text":
        items = _biographies(rng, people, config)
    else:
        six = len(ATTRIBUTES)
        items = _questions(np.repeat(people, six), np.tile(np.arange(six), len(people)), config)
    return _pack(items[:, None], items.shape[-1], dataclasses.replace(config, scored="values"))


def _most(config: BiographiesConfig) -> int:
    """People in a row, at most."""
    return config.length // (BIOGRAPHY if config.form == "text" else SHORT)


def _draw_people(rng: np.random.Generator, n: int, count: int, config: BiographiesConfig) -> Int[np.ndarray, "n count"]:
    """`count` different people for each row, one after the other by their frequencies among those not yet drawn."""
    ends = np.cumsum(frequencies(config))
    draw = lambda size: np.minimum(np.searchsorted(ends, rng.random(size), side="right"), config.people - 1)
    people = draw((n, count))
    while (again := _repeated(people)).any():
        people[again] = draw(int(again.sum()))
    return people


def _repeated(rows: Int[np.ndarray, "n count"]) -> np.ndarray:
    """Where an entry equals an earlier one of its row."""
    order = np.argsort(rows, axis=1, kind="stable")
    ranked = np.take_along_axis(rows, order, axis=1)
    repeated = np.zeros(rows.shape, bool)
    np.put_along_axis(repeated, order[:, 1:], ranked[:, 1:] == ranked[:, :-1], axis=1)
    return repeated


def _biographies(rng: np.random.Generator, people: Int[np.ndarray, "M"], config: BiographiesConfig) -> np.ndarray:
    """Tokens [M, 18] of a biography of each person."""
    six, (names, values) = len(ATTRIBUTES), population(config)
    sentences = np.full((len(people), six, 1 + max(ATTRIBUTES.values())), -1)
    openings = _starts(config)[_OPENING] + config.templates * np.arange(six)
    sentences[:, :, 0] = openings + rng.integers(config.templates, size=(len(people), six))
    sentences[:, :, 1:] = _answers(values[people])
    order = rng.permuted(np.tile(np.arange(six), (len(people), 1)), axis=1)
    said = np.take_along_axis(sentences, order[:, :, None], axis=1)
    said = said[said >= 0].reshape(len(people), six + VALUE_TOKENS)
    return np.concatenate([np.full((len(people), 1), SEPARATOR), names[people], said], axis=1)


def _questions(people: Int[np.ndarray, "M"], asked: Int[np.ndarray, "M"], config: BiographiesConfig) -> np.ndarray:
    """Tokens [M, 8] of a question and its answer for each person; a short one ends with -1."""
    names, values = population(config)
    answers = np.take_along_axis(_answers(values[people]), asked[:, None, None], axis=1)[:, 0]
    question = _starts(config)[_QUESTION] + asked[:, None]
    return np.concatenate([np.full((len(people), 1), SEPARATOR), names[people], question, answers], axis=1)


def _answers(values: Int[np.ndarray, "M 8"]) -> np.ndarray:
    """Tokens [M, 6, 3] of the value of each attribute, -1 after the short ones."""
    widths = np.array(list(ATTRIBUTES.values()))
    there = np.arange(widths.max()) < widths[:, None]
    answers = np.full((len(values), *there.shape), -1)
    answers[:, there] = values
    return answers


def _pack(items: Int[np.ndarray, "n M L"], length: int, config: BiographiesConfig) -> Rows:
    """Puts the items of a row (-1 is no token) one after the other, as many as fit as a whole."""
    real = items >= 0
    ends = np.cumsum(real.sum(-1), axis=1)
    fits = real & (ends <= length)[..., None]
    position = (ends - real.sum(-1))[..., None] + np.arange(items.shape[-1])
    tokens = np.full((len(items), length), SEPARATOR, np.int32)
    tokens[np.nonzero(fits)[0], position[fits]] = items[fits]
    targets = np.concatenate([tokens[:, 1:], np.full((len(items), 1), SEPARATOR, np.int32)], axis=1)
    targets[np.arange(length) >= fits.sum((1, 2))[:, None]] = -1
    if config.scored == "values":
        targets[targets < _starts(config)[_VALUE]] = -1
    return {"tokens": tokens, "targets": targets}


def score(predictions: Predictions, data: Rows, config: BiographiesConfig) -> dict[str, float]:
    """Scores predicted tokens of values; the correct beginning of a date is given to the model.

    Args:
        predictions: [n, T], the token predicted at each position.
        data: what `generate` or `about` returned.
        config: which population.

    Returns:
        "accuracy": share of value tokens that are right; "attribute_accuracy": share of values with every token
        right; "accuracy/birth_date" and so on: the same share of one attribute, left out where the rows have none.
    """
    right, kinds = np.asarray(predictions) == data["targets"], attribute_of(data["targets"], config)
    hits = [right[kinds == i].reshape(-1, width).all(1) for i, width in enumerate(ATTRIBUTES.values())]
    scores = {f"accuracy/{name}": float(hit.mean()) for name, hit in zip(ATTRIBUTES, hits, strict=True) if hit.size}
    every = float(np.concatenate(hits).mean())
    return {"accuracy": float(right[kinds >= 0].mean()), "attribute_accuracy": every, **scores}


def scored(config: BiographiesConfig) -> int:
    """Returns an upper bound of the scored positions in a row."""
    if config.form == "text":
        return config.length // BIOGRAPHY * (BIOGRAPHY if config.scored == "all" else VALUE_TOKENS)
    if config.scored == "all":
        return config.length
    longest = config.length // LONG  # a row of questions for birth dates has the most answer tokens
    return longest * max(ATTRIBUTES.values()) + config.length % LONG // SHORT


def describe(config: BiographiesConfig) -> dict[str, int | str | float]:
    """Returns the axes that a report shows."""
    return {"people": config.people, "form": config.form, "length": config.length, **changed(config, "power")}


def chance(config: BiographiesConfig) -> float:
    """Returns the accuracy of guessing one of the values of the right kind at every value token."""
    return float(np.mean(1 / np.array(parts(config), float)))
