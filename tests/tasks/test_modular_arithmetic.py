"""Modular arithmetic: Python's own arithmetic solves it; lengths, brackets, and what is refused."""

import hashlib

import numpy as np
import pytest

from memjax.tasks import modular_arithmetic
from memjax.tasks.modular_arithmetic import SYMBOLS, ModularArithmeticConfig

FLAT = ModularArithmeticConfig(length=20, min_length=3)
NESTED = ModularArithmeticConfig(length=21, min_length=1, brackets=True)
CONFIGS = [FLAT, NESTED, ModularArithmeticConfig(length=13, modulus=3, multiplication=False)]


def text(row, config):
    """What stands before the first `=`."""
    written = "".join(str(t) if t < config.modulus else SYMBOLS[t - config.modulus] for t in row.tolist())
    return written.split("=", maxsplit=1)[0]


@pytest.mark.parametrize("config", CONFIGS)
def test_python_solves_it(config):
    data = modular_arithmetic.generate(np.random.default_rng(0), 200, config)
    answers = np.full_like(data["tokens"], -1)
    for row, answer in zip(data["tokens"], answers, strict=True):
        expression = text(row, config)
        answer[len(expression)] = eval(expression) % config.modulus
        assert set(row[len(expression) :].tolist()) == {config.modulus + SYMBOLS.index("=")}
    assert modular_arithmetic.score(answers, data, config) == {"accuracy": 1.0, "scaled_accuracy": 1.0}
    assert ((data["targets"] >= 0).sum(1) == modular_arithmetic.scored(config)).all()


def test_values_by_hand():
    # every row of three terms, so that each precedence and sign stands somewhere among them
    config = ModularArithmeticConfig(length=6)
    data = modular_arithmetic.generate(np.random.default_rng(0), 20_000, config)
    rows = zip(data["tokens"], data["targets"].max(1).tolist(), strict=True)
    found = {text(row, config): value for row, value in rows}
    assert len(found) > 1100, "of 5 * 3 * 5 * 3 * 5 expressions"
    by_hand = {"2+3*4": 4, "2*3+4": 0, "1-2*3": 0, "4-3-2": 4, "0-1+3": 2, "2*4*3": 4, "3*2-4": 2}
    assert {expression: found[expression] for expression in by_hand} == by_hand


@pytest.mark.parametrize("config, sizes", [(FLAT, list(range(3, 20, 2))), (NESTED, list(range(1, 21)))])
def test_lengths_are_uniform(config, sizes):
    data = modular_arithmetic.generate(np.random.default_rng(1), 3000, config)
    found = np.bincount((data["targets"] >= 0).argmax(1))
    assert np.nonzero(found)[0].tolist() == sizes
    assert found[sizes].min() > 3000 / len(sizes) * 0.7


def test_without_min_length_every_row_is_full():
    for config, size in ((ModularArithmeticConfig(length=12), 11), (ModularArithmeticConfig(length=13), 11)):
        data = modular_arithmetic.generate(np.random.default_rng(2), 50, config)
        assert ((data["targets"] >= 0).argmax(1) == size).all()
    data = modular_arithmetic.generate(np.random.default_rng(2), 50, ModularArithmeticConfig(length=12, brackets=True))
    assert (data["targets"][:, 11] >= 0).all()


def test_brackets_nest_and_stand_only_where_asked():
    data = modular_arithmetic.generate(np.random.default_rng(3), 300, NESTED)
    written = [text(row, NESTED) for row in data["tokens"]]
    assert all(len(w) < 3 or (w[0], w[-1]) == ("(", ")") for w in written)
    assert sum("((" in w for w in written) > 30 and any("*" in w for w in written)
    data = modular_arithmetic.generate(np.random.default_rng(3), 300, FLAT)
    assert not any("(" in text(row, FLAT) for row in data["tokens"])
    data = modular_arithmetic.generate(np.random.default_rng(3), 300, CONFIGS[2])
    assert not any("*" in text(row, CONFIGS[2]) for row in data["tokens"])


def test_how_often_the_answer_is_0():
    shares = []
    for brackets, multiplication in ((False, True), (True, False), (True, True)):
        config = ModularArithmeticConfig(min_length=3, brackets=brackets, multiplication=multiplication)
        data = modular_arithmetic.generate(np.random.default_rng(4), 2000, config)
        shares.append(modular_arithmetic.score(np.zeros_like(data["tokens"]), data, config)["accuracy"])
    np.testing.assert_allclose(shares, [0.2, 0.2, 0.27], atol=0.03)


def test_score_by_hand():
    targets = np.array([[-1, 4], [2, -1], [-1, 0], [1, -1]], np.int32)
    got = modular_arithmetic.score(
        np.array([[4, 4], [2, 0], [0, 0], [0, 1]]), {"tokens": targets, "targets": targets}, FLAT
    )
    assert got == pytest.approx({"accuracy": 0.75, "scaled_accuracy": (0.75 - 0.2) / 0.8})


@pytest.mark.parametrize("config, fingerprint", [(FLAT, "5cbb3bc664138bb1"), (NESTED, "7d046d76c2eac065")])
def test_same_seed_same_rows(config, fingerprint):
    data = modular_arithmetic.generate(np.random.default_rng(7), 20, config)
    found = hashlib.sha256(data["tokens"].astype("<i8").tobytes() + data["targets"].astype("<i8").tobytes())
    assert found.hexdigest()[:16] == fingerprint


def test_describe():
    assert modular_arithmetic.describe(CONFIGS[2]) == {
        "brackets": False,
        "modulus": 3,
        "length": 13,
        "multiplication": False,
    }
    assert modular_arithmetic.describe(NESTED)["min_length"] == 1


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"modulus": 1}, "modulus must be at least 2, got 1"),
        ({"vocab_size": 10}, "vocab_size of at least 11, got 10"),
        ({"length": 1}, "length must be at least 2, got 1"),
        ({"length": 10, "min_length": 10}, "min_length 10 .* 1 and 9"),
        ({"length": 11, "min_length": 10}, "min_length 10 .* 1 and 9"),
        ({"length": 11, "min_length": 11, "brackets": True}, "min_length 11 .* 1 and 10"),
        ({"min_length": 0}, "min_length 0"),
    ],
)
def test_impossible_configs(fields, message):
    with pytest.raises(ValueError, match=f"^modular_arithmetic: .*{message}"):
        ModularArithmeticConfig(**fields)
