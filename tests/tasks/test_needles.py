"""Needles: a look-up in the prompt's own text solves every variant; the prompt ends in the answer's prefix."""

import dataclasses
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from memjax.tasks import _words, needles
from memjax.tasks.needles import VARIANTS, NeedlesConfig

NEEDLE = re.compile(r"One of the special magic (numbers|uuids) for (\S+) is: (\S+?)\.(?=\s)")
PREFIX = re.compile(r"\? The special magic (?:number|uuid)s? for (.+) mentioned in the provided text (is|are) $")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
FINGERPRINTS = {
    "single_1": "5f86f6c2609d5161",
    "single_2": "956c613f3d269780",
    "single_3": "eb6766bfce7a2cf6",
    "multikey_1": "c8f9cd712bffee1a",
    "multikey_2": "167d248ef87e1af6",
    "multikey_3": "190eeb1889038570",
    "multivalue": "7c04fda7c8d9371a",
    "multiquery": "3d8d8f22324eb32e",
}


@pytest.fixture
def novel(tmp_path):
    """A text of 300 different sentences, over several lines."""
    path = tmp_path / "novel.txt"
    path.write_text("\n".join(f"Chapter {i} tells\nof  {i * i} caf\u00e9s and a bird!" for i in range(300)))
    return str(path)


def fingerprint(data):
    return hashlib.sha256(b"".join(data[k].astype("<i8").tobytes() for k in ("tokens", "targets"))).hexdigest()[:16]


def text(ids):
    return bytes(int(i) for i in ids if i < 256).decode()


def prompts(data):
    """The text of each row up to and with the byte that predicts the first scored one."""
    return [text(row[: np.argmax(t >= 0) + 1]) for row, t in zip(data["tokens"], data["targets"], strict=True)]


def runs(targets):
    """The scored runs of a row, as lists of positions."""
    places = np.flatnonzero(targets >= 0)
    return np.split(places, 1 + np.flatnonzero(np.diff(places) > 1))


def solve(data):
    """Writes the values of the asked keys, as they stand in the prompt, into the scored runs."""
    answers = np.full_like(data["tokens"], -1)
    for prompt, targets, answer in zip(prompts(data), data["targets"], answers, strict=True):
        found = PREFIX.search(prompt)
        assert found, prompt[-90:]
        pairs = [(key, value) for _, key, value in NEEDLE.findall(prompt)]
        values = [value for asked in re.split(r",? and |, ", found[1]) for key, value in pairs if key == asked]
        for run, value in zip(runs(targets), values, strict=True):
            answer[run] = list(value.encode())
    return answers


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_look_up_solves_it(variant, novel):
    config = NeedlesConfig(variant=variant, length=1500, haystack=novel)
    data = needles.generate(np.random.default_rng(0), 20, config)
    answers = solve(data)
    assert needles.score(answers, data, config) == {"accuracy": 1.0, "token_accuracy": 1.0}
    assert (data["targets"] >= 0).sum(1).tolist() == [needles.scored(config)] * 20
    rows, positions = np.nonzero(data["targets"] >= 0)
    np.testing.assert_array_equal(data["targets"][rows, positions], data["tokens"][rows, positions + 1])


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_answer_prefix_ends_the_prompt_and_the_answer_does_not_stand_in_it(variant):
    data = needles.generate(np.random.default_rng(1), 20, NeedlesConfig(variant=variant))
    for prompt, row, targets in zip(prompts(data), data["tokens"], data["targets"], strict=True):
        several = variant in ("multivalue", "multiquery")
        question, prefix = prompt.splitlines()[-1].split("? ")
        assert prefix.endswith("mentioned in the provided text are " if several else "provided text is ")
        assert question.startswith("What are all the special" if several else "What is the special")
        assert prefix.startswith("The special magic number") or variant in ("single_3", "multikey_3")
        values = [text(targets[run]) for run in runs(targets)]
        after = text(row)[len(prompt) :]
        assert after == ", ".join(values[:-1]) + (", and " if several else "") + values[-1] + "."
        assert all(f"is: {value}." in prompt and value not in prompt.splitlines()[-1] for value in values)


def test_needles_of_each_variant():
    for variant, kind in VARIANTS.items():
        data = needles.generate(np.random.default_rng(2), 8, NeedlesConfig(variant=variant, length=2000))
        for prompt in prompts(data):
            found = NEEDLE.findall(prompt)
            names = [key for _, key, _ in found]
            asked = re.split(r",? and |, ", PREFIX.search(prompt)[1])
            assert len(asked) == len(set(asked)) == kind.queries
            if kind.haystack == "needles":
                assert len(found) >= 13 and len(set(names)) == len(found)
                assert len(prompt.splitlines()) == len(found) + 2, "nothing but needles"
            else:
                assert len(found) == kind.keys * kind.values and len(set(names)) == kind.keys
            assert all((UUID.fullmatch(key) is not None) == (kind.key == "uuids") for key in names)
            for what, _, value in found:
                assert what == kind.value
                assert re.fullmatch(r"[1-9]\d{6}", value) if what == "numbers" else UUID.fullmatch(value)


def test_the_noise_is_repeated_line_by_line():
    config = NeedlesConfig()
    data = needles.generate(np.random.default_rng(3), 50, config)
    noise = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
    for prompt, row in zip(prompts(data), data["tokens"], strict=True):
        lines = prompt.splitlines()
        assert sum(line == noise for line in lines) == len(lines) - 3
        free = (row == 256).sum()
        assert free <= len(noise), "as much noise as fits"
        assert (row[config.length - free :] == 256).all()


def depths(data):
    """The share of the haystack's lines that stand before the needle."""
    found = []
    for prompt in prompts(data):
        lines = [line.startswith("One of") for line in prompt.splitlines()[1:-1]]
        found.append(lines.index(True) / (len(lines) - 1))
    return found


def test_depth_is_where_the_needle_stands():
    for depth in (0.0, 0.5, 1.0):
        config = NeedlesConfig(length=1300, depth=depth)
        assert set(depths(needles.generate(np.random.default_rng(4), 10, config))) == {depth}
    anywhere = depths(needles.generate(np.random.default_rng(4), 200, NeedlesConfig(length=1300)))
    assert len(set(anywhere)) == 11
    assert abs(np.mean(anywhere) - 0.5) < 0.09


def test_the_text_is_a_piece_of_the_file_as_long_as_fits(novel):
    config = NeedlesConfig(variant="single_2", haystack=novel)
    data = needles.generate(np.random.default_rng(5), 30, config)
    whole = " ".join(" ".join(Path(novel).read_text(encoding="utf-8").split()) for _ in range(2))
    starts = set()
    for prompt, row in zip(prompts(data), data["tokens"], strict=True):
        context = re.sub(NEEDLE.pattern, "", prompt.split("\n", 1)[1].rsplit("\n", 1)[0] + " ", count=1)
        plain = " ".join(context.split())
        assert plain in whole and len(plain) > 400
        assert (row == 256).sum() < 12, "up to the last whole word"
        starts.add(plain[:12])
    assert len(starts) > 20


def test_values_of_one_key_are_asked_in_the_order_of_the_text():
    data = needles.generate(np.random.default_rng(6), 20, NeedlesConfig(variant="multivalue", length=2000))
    for prompt, targets in zip(prompts(data), data["targets"], strict=True):
        assert [text(targets[run]) for run in runs(targets)] == [value for *_, value in NEEDLE.findall(prompt)]


def test_score_by_hand():
    config = NeedlesConfig(variant="multivalue")
    data = needles.generate(np.random.default_rng(7), 2, config)
    answers = solve(data)
    first, second, *_ = runs(data["targets"][0])
    swapped = answers.copy()
    swapped[0, first], swapped[0, second] = answers[0, second], answers[0, first]
    assert needles.score(swapped, data, config)["accuracy"] == 1.0, "the order does not count"
    assert needles.score(swapped, data, config)["token_accuracy"] < 1.0
    answers[0, first[3]] = 256
    answers[1, runs(data["targets"][1])[2][0]] = -1
    answers[1, runs(data["targets"][1])[3][6]] = ord("x")
    got = needles.score(answers, data, config)
    assert got == pytest.approx({"accuracy": (3 / 4 + 2 / 4) / 2, "token_accuracy": 53 / 56})


def test_case_does_not_count():
    config = NeedlesConfig(variant="single_3")
    data = needles.generate(np.random.default_rng(8), 1, config)
    upper = np.where(
        (data["targets"] >= ord("a")) & (data["targets"] <= ord("f")), data["targets"] - 32, data["targets"]
    )
    got = needles.score(upper, data, config)
    assert got["accuracy"] == 1.0 and got["token_accuracy"] < 1.0


@pytest.mark.parametrize("variant", VARIANTS)
def test_same_seed_same_rows(variant):
    data = needles.generate(np.random.default_rng(9), 3, NeedlesConfig(variant=variant))
    assert fingerprint(data) == FINGERPRINTS[variant]
    assert data["tokens"].shape == (3, 1024)
    assert needles.generate(np.random.default_rng(9), 0, NeedlesConfig(variant=variant))["tokens"].shape == (0, 1024)


def test_words_are_different():
    assert len(set(_words.ADJECTIVES)) == len(set(_words.NOUNS)) == 64


def test_axes_and_chance():
    config = NeedlesConfig(length=2048, variant="multikey_1")
    assert needles.describe(config) == {"variant": "multikey_1", "length": 2048, "haystack": "noise"}
    config = dataclasses.replace(config, depth=0.0, haystack="books/emma.txt")
    assert needles.describe(config) == {"variant": "multikey_1", "length": 2048, "depth": 0.0, "haystack": "books-emma"}
    assert needles.describe(NeedlesConfig()) == {"variant": "single_1", "length": 1024}
    assert needles.chance(config) == pytest.approx(1 / 9_000_000)
    assert needles.chance(NeedlesConfig(variant="multikey_3")) == 2**-122


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"vocab_size": 256}, "vocab_size must be at least 257, got 256"),
        ({"depth": 1.5}, r"depth must lie between 0 and 1, got 1\.5"),
        ({"depth": float("nan")}, "depth must lie between"),
        ({"length": 300}, "length 300 is too short for single_1, which takes 370"),
        ({"length": 0}, "length 0 is too short"),
        ({"variant": "multikey_2", "length": 300_000}, "needles, of 4096 words"),
    ],
)
def test_impossible_configs(fields, message):
    with pytest.raises(ValueError, match=f"^needles: .*{message}") as error:
        NeedlesConfig(**fields)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_shortest_rows_exist(variant):
    with pytest.raises(ValueError, match="which takes") as error:
        NeedlesConfig(variant=variant, length=1)
    config = NeedlesConfig(variant=variant, length=int(str(error.value).split()[-1]))
    data = needles.generate(np.random.default_rng(0), 50, config)
    assert needles.score(solve(data), data, config)["accuracy"] == 1.0


def test_a_file_that_is_not_there_or_empty(tmp_path):
    missing = NeedlesConfig(variant="single_2", haystack=str(tmp_path / "none.txt"))
    with pytest.raises(FileNotFoundError, match=r"^needles: haystack: no such file: .*none\.txt$"):
        needles.generate(np.random.default_rng(0), 1, missing)
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(ValueError, match=r"^needles: haystack: .*empty\.txt holds no text$"):
        needles.generate(
            np.random.default_rng(0), 1, NeedlesConfig(variant="single_2", haystack=str(tmp_path / "empty.txt"))
        )
