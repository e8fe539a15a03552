"""Bits of knowledge: of models that know everything, something, the frequencies of values, nothing."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memjax.config import EvaluationConfig, TrainConfig
from memjax.data import TaskData, TaskSlice
from memjax.evaluation import bits, bits_per_parameter, evaluators, knowledge, measurements, plateau_end, plateau_loss
from memjax.evaluation.knowledge import populations
from memjax.mixers import AttentionConfig
from memjax.models import LM, BlockConfig, LMConfig
from memjax.models.lm import HiddenOutput
from memjax.sharding import make_mesh
from memjax.tasks import biographies
from memjax.tasks.biographies import ATTRIBUTES, BiographiesConfig

SIZES = {"birth_years": 9, "birth_cities": 10, "universities": 8, "majors": 7, "employers": 11, "work_cities": 6}
NAMES = {"first_names": 4, "middle_names": 5, "last_names": 6}
TEXT = BiographiesConfig(vocab_size=160, people=30, templates=3, **NAMES, **SIZES)
QUESTION = dataclasses.replace(TEXT, form="question")
POSSIBLE = {"birth_date": 28 * 12 * 9, "birth_city": 10, "university": 8, "major": 7, "employer": 11, "work_city": 6}
ALL_BITS = 30 * math.log2(28 * 12 * 9 * 10 * 8 * 7 * 11 * 6)
OPENINGS, QUESTIONS, VALUES = 16, 34, 40  # first ids, by hand
PARTS = np.cumsum([VALUES, 28, 12, *SIZES.values()])


def next_part() -> np.ndarray:
    """[vocab] which of the eight value tokens comes after a token, -1 for none."""
    after = np.full(TEXT.vocab_size, -1)
    for attribute, part in enumerate((0, 3, 4, 5, 6, 7)):
        after[OPENINGS + 3 * attribute : OPENINGS + 3 * attribute + 3] = after[QUESTIONS + attribute] = part
    after[PARTS[0] : PARTS[1]], after[PARTS[1] : PARTS[2]] = 1, 2
    return after


class Knower(LM):
    """Reads the name at the start of the row and says what it knows of these value tokens of the first `people`;
    of the others it knows the shares of values, or nothing."""

    def __init__(self, parts=range(8), people=30, shares=None):
        self.config = LMConfig(vocab_size=TEXT.vocab_size)
        names, values = biographies.population(TEXT)
        self.names, self.values = nnx.Param(jnp.asarray(names)), nnx.Param(jnp.asarray(values))
        self.parts, self.people = tuple(parts), people
        self.shares = None if shares is None else tuple(shares.tolist())

    def hidden(self, tokens, state=None, *, segment_ids=None, key=None, taps=None, dtype=jnp.float32):
        person = jnp.argmax(jnp.all(tokens[:, None, 1:4] == self.names[...][None], -1), -1)
        part = jnp.asarray(next_part())[tokens]
        value = jnp.take_along_axis(self.values[...][person], jnp.maximum(part, 0), 1)
        known = jnp.isin(part, jnp.array(self.parts, int)) & (person < self.people)[:, None]
        logits = 60.0 * jax.nn.one_hot(value, TEXT.vocab_size) * known[..., None]
        if self.shares is not None:
            ids = np.arange(TEXT.vocab_size)
            of_part = [(ids >= first) & (ids < last) for first, last in itertools.pairwise(PARTS)]
            told = jnp.asarray(np.where(of_part, np.log(np.maximum(self.shares, 1e-30)), -60.0))[part]
            logits = jnp.where(known[..., None], logits, told)
        return HiddenOutput(logits.astype(dtype), (), {})

    def logits(self, hidden):
        return hidden.astype(jnp.float32)


@pytest.mark.parametrize("config", [TEXT, QUESTION], ids=["text", "question"])
def test_who_knows_everything_knows_all_bits(config):
    got = knowledge(Knower(), config, batch_size=16)
    assert got["bits"] == pytest.approx(ALL_BITS)
    assert got["bits_per_parameter"] == pytest.approx(ALL_BITS / (30 * 11))
    assert got["accuracy"] == got["attribute_accuracy"] == got["accuracy/birth_date"] == 1.0
    assert got["loss"] == pytest.approx(0.0, abs=1e-6)


def test_who_knows_nothing_knows_no_bits():
    got = knowledge(Knower(parts=[]), TEXT)
    assert got["bits"] == got["bits_per_parameter"] == 0.0
    assert got["loss"] == pytest.approx(math.log(TEXT.vocab_size), rel=1e-6)
    assert got["loss/birth_date"] == pytest.approx(3 * math.log(TEXT.vocab_size), rel=1e-6)


def test_the_shares_of_values_are_the_plateau_and_nearly_no_bits():
    values = biographies.population(TEXT).values
    shares = np.bincount(values.reshape(-1), minlength=TEXT.vocab_size) / 30
    got = knowledge(Knower(parts=[], shares=shares), TEXT)
    assert got["loss"] == pytest.approx(plateau_loss(TEXT), rel=1e-5)
    surplus = sum(size - 1 for size in biographies.parts(TEXT)) / (2 * math.log(2))  # see the head of knowledge.py
    assert 0 < got["bits"] < 2 * surplus


def test_what_is_known_of_some_attributes_and_of_some_people():
    major = knowledge(Knower(parts=[5]), TEXT)
    assert major["bits"] == pytest.approx(30 * math.log2(7))
    assert (major["accuracy/major"], major["accuracy/employer"]) == (1.0, 0.0)
    assert knowledge(Knower(parts=[1, 2]), TEXT)["accuracy/birth_date"] == 0.0
    half = knowledge(Knower(people=15), TEXT)
    assert half["attribute_accuracy"] == 0.5
    assert half["loss"] == pytest.approx(math.log(TEXT.vocab_size) / 2, rel=1e-6)


def test_a_sample_stands_for_all_people():
    got = knowledge(Knower(), QUESTION, people=7, batch_size=16)
    assert got["bits"] == pytest.approx(ALL_BITS)
    nothing = knowledge(Knower(parts=[]), QUESTION, people=7, batch_size=16)
    assert nothing["loss"] == pytest.approx(math.log(TEXT.vocab_size), rel=1e-6)
    assert knowledge(Knower(people=15), TEXT, people=10)["attribute_accuracy"] not in (0.0, 1.0), "not the first ones"
    assert knowledge(Knower(people=15), TEXT, people=99) == knowledge(Knower(people=15), TEXT)


def test_losses_are_those_of_the_models_logits(rngs):
    block = BlockConfig(mixer=AttentionConfig(heads=1), mlp=None)
    model = LM(LMConfig(vocab_size=160, width=16, blocks=(block,), repeats=1, embedding_std=0.5), rngs=rngs)
    got = knowledge(model, QUESTION, batch_size=50)  # the last batch is not full
    rows = biographies.about(np.random.default_rng(0), np.arange(30), QUESTION)
    logits = np.asarray(jax.jit(lambda tokens: model(tokens).logits)(rows["tokens"]), np.float64)
    logits -= logits.max(-1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    losses = -np.take_along_axis(logits, np.maximum(rows["targets"], 0)[..., None], -1)[..., 0]
    losses = np.where(rows["targets"] >= 0, losses, 0).sum(1).reshape(30, 6).mean(0)
    np.testing.assert_allclose([got[f"loss/{name}"] for name in ATTRIBUTES], losses, rtol=1e-5)
    assert got["loss"] == pytest.approx(losses.sum() / 8, rel=1e-5)
    assert got["bits"] == bits(dict(zip(ATTRIBUTES, [got[f"loss/{n}"] for n in ATTRIBUTES], strict=True)), QUESTION)


@pytest.mark.slow
def test_a_mesh_changes_nothing():
    with jax.set_mesh(make_mesh(data=2, fsdp=2)):
        split = knowledge(Knower(people=15), QUESTION, batch_size=16)
    assert split == pytest.approx(knowledge(Knower(people=15), QUESTION, batch_size=16), rel=1e-5)


def test_bits_by_hand():
    assert biographies.possible(TEXT) == POSSIBLE
    losses = {name: math.log(size / 2) for name, size in POSSIBLE.items()}  # a bit of each
    assert bits(losses, TEXT) == pytest.approx(30 * 6)
    assert bits(losses | {"major": 100.0}, TEXT) == pytest.approx(30 * 5), "no attribute takes from another"
    assert bits_per_parameter(180.0, 90) == 2.0


def test_the_plateau_of_a_large_population_is_the_mean_log_of_the_numbers_of_values():
    large = dataclasses.replace(TEXT, people=100_000, first_names=100, middle_names=100, last_names=100, vocab_size=999)
    parts = (28, 12, 9, 10, 8, 7, 11, 6)
    assert plateau_loss(large) == pytest.approx(np.log(parts).mean(), rel=1e-3)
    assert plateau_loss(TEXT) < np.log(parts).mean() < plateau_loss(dataclasses.replace(TEXT, power=2.0))


def test_the_plateau_ends_below_a_fraction_of_its_level():
    steps, losses = [0, 20, 40, 60, 80], [6.0, 4.1, 3.95, 3.5, 1.0]
    assert plateau_end(steps, losses, 4.0) == 60
    assert plateau_end(steps, losses, 4.0, fraction=0.5) == 80
    assert plateau_end(steps[:3], losses[:3], 4.0) is None


@pytest.mark.slow
def test_a_run_on_biographies_logs_and_reports_what_it_knows():
    tasks = (TEXT, dataclasses.replace(TEXT, length=40), QUESTION)
    assert len(populations(tasks)) == 2
    evaluation = EvaluationConfig(tasks=tasks, examples=16, batch_size=16)
    config = TrainConfig(data=TaskData(train=(TaskSlice(TEXT),)), evaluation=evaluation)
    logged = {}
    for evaluator in evaluators(config):
        logged |= evaluator(Knower(), 1)
    assert logged["eval/knowledge/people=30,form=text/bits"] == pytest.approx(ALL_BITS)
    assert logged["eval/knowledge/people=30,form=question/attribute_accuracy"] == 1.0
    assert "eval/biographies/people=30,form=text,length=40/accuracy" in logged
    said = []
    rows = measurements.measure(Knower(), config, tasks, said.append)
    assert [row["task"] for row in rows] == ["biographies"] * 3 + ["knowledge"] * 2
    assert rows[-1]["bits"] == pytest.approx(ALL_BITS) and rows[-1]["examples"] == 16
    assert f"{ALL_BITS:.0f} bits" in said[-1]


def test_what_is_impossible_is_refused():
    small = Knower()
    small.config = LMConfig(vocab_size=100)
    with pytest.raises(ValueError, match="vocabulary of 131 tokens, the model has 100"):
        knowledge(small, TEXT)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        knowledge(Knower(), TEXT, people=0)
    with pytest.raises(ValueError, match="parameters"):
        bits_per_parameter(1.0, 0)
    with pytest.raises(ValueError, match="losses must be of birth_date"):
        bits({"major": 1.0}, TEXT)
    with pytest.raises(ValueError, match="2 steps but 1"):
        plateau_end([1, 2], [1.0], 1.0)
    with pytest.raises(ValueError, match="fraction"):
        plateau_end([1], [1.0], 1.0, fraction=1.0)
