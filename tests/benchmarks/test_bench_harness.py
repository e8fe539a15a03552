"""The benchmark of the harness at a size that takes seconds; it needs the extra `eval`."""

import importlib.util

import pytest

from benchmarks import harness
from memjax.mixers import AttentionConfig

TINY = harness.Size(width=16, layers=1, questions=3, choices=2, shots=1, letters=60, steps=4, batch_size=2)


def test_the_questions_share_the_examples_and_choices_their_question():
    choices, generations = harness.questions(TINY)
    contexts = [context for context, _ in choices]
    assert contexts[0] == contexts[1] != contexts[2]
    assert contexts[::2] == [context for context, _ in generations]


@pytest.mark.slow
def test_both_sides_agree_and_prefixes_are_saved():
    if importlib.util.find_spec("lm_eval") is None:
        pytest.skip("lm-evaluation-harness is not installed: pip install -e '.[eval]'")
    result = harness.run(1, TINY, AttentionConfig(heads=1, context=64))
    assert [row["requests"] for row in result.rows] == ["6 loglikelihood", "3 generate_until"]
    assert all(row["fed"] < row["tokens asked"] and row["s"] > 0 for row in result.rows)
