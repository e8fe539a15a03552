"""Decoding time and memory: what a row says, on a clock of our own. No test here depends on how fast a machine is."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memjax.evaluation import decoding as module
from memjax.evaluation.decoding import CALLS, ROUNDS, STEPS, decoding, trained_length, within
from memjax.mixers import GatedDeltaNetConfig
from memjax.models import LM, BlockConfig, LMConfig, generate


@pytest.fixture(scope="module")
def model():
    block = BlockConfig(mixer=GatedDeltaNetConfig(heads=1, head_dim=8), mlp=None)
    # an output matrix of its own: with a tied one the most likely token is the one that was read
    config = LMConfig(vocab_size=16, width=16, blocks=(block,), repeats=1, tie_embeddings=False)
    return LM(config, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def programs(model, task_run):
    return module._compile(model, task_run[2], batch=2, chunk=16)


@pytest.fixture(scope="module")
def rows(model, task_run):
    """Of two contexts, by a clock on which each call takes one second more than the call before it."""
    readings = itertools.accumulate(itertools.chain.from_iterable((0.0, n) for n in itertools.count(1)))
    return decoding(model, task_run[2], factors=(1, 3), batch=2, clock=lambda: next(readings))


def test_rows_say_what_was_measured(model, rows):
    assert [row["context"] for row in rows] == [16, 48] and [row["axes"] for row in rows] == [["context"]] * 2
    for row in rows:
        assert (row["task"], row["batch"], row["chunk"], row["dtype"]) == ("decoding", 2, 16, "float32")
        assert row["state_bytes"] == model.state_bytes(2)  # whatever the context: the memory does not grow
        assert row["temporary_bytes"] > 0 and row["prefill_temporary_bytes"] > 0
        assert row["device"] == jax.devices()[0].device_kind
    assert 0 < rows[0]["one_call_temporary_bytes"] < rows[1]["one_call_temporary_bytes"]


def test_times_are_medians_by_the_tokens_of_a_row(rows):
    seconds = itertools.count(2 + CALLS)  # after the calls that do not count
    prefill, decode = {1: [], 3: []}, {1: [], 3: []}
    for _ in range(ROUNDS):
        first, second, third = (next(seconds) for _ in range(3))
        prefill[1].append(first)
        prefill[3].append(first + second + third)
        for _ in range(CALLS):
            for factor in (1, 3):
                decode[factor].append(next(seconds))
    for factor, row in zip((1, 3), rows, strict=True):
        assert row["prefill_ms_per_token"] == pytest.approx(1e3 * np.median(prefill[factor]) / (16 * factor))
        assert row["decode_ms_per_token"] == pytest.approx(1e3 * np.median(decode[factor]) / STEPS)


def test_the_programs_read_and_continue_as_generate_does(model, programs, rng):
    """Two calls that read, one that decodes: its last token is the one that `generate` puts there."""
    prompt = rng.integers(16, size=(2, 32)).astype(np.int32)
    _, state = programs.prefill(model, jnp.asarray(prompt[:, :16]), programs.empty())
    first, state = programs.prefill(model, jnp.asarray(prompt[:, 16:]), state)
    last, _ = programs.decode(model, first, state)
    wanted = np.asarray(generate(model, jnp.asarray(prompt), STEPS + 1))
    assert len(set(wanted.reshape(-1).tolist())) > 2  # a model that repeats itself would prove nothing
    assert np.asarray(first).tolist() == wanted[:, 0].tolist()
    assert np.asarray(last).tolist() == wanted[:, -1].tolist()


def test_the_state_is_given_away(model, programs):
    state = programs.empty()
    programs.prefill(model, jnp.zeros((2, 16), jnp.int32), state)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize(("most", "wanted"), [(64, [1, 4, 16]), (15, [1, 4]), (4, [1, 4]), (0, [1])])
def test_contexts_beyond_the_longest_are_left_out_but_for_the_first(most, wanted):
    assert within(most, (1, 4, 16)) == wanted


def test_the_trained_length_is_that_of_the_rows(text_run, task_run):
    assert trained_length(text_run[2]) == 32 and trained_length(task_run[2]) == 16


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"factors": ()}, {"factors": (0, 1)}, {"factors": (2, 1)}])
def test_impossible_requests(model, task_run, wrong):
    with pytest.raises(ValueError, match="must be positive"):
        decoding(model, task_run[2], **wrong)
