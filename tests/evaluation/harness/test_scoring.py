"""Scores of the batched engine are those of one row at a time."""

import jax
import numpy as np
import pytest

from memjax.evaluation.harness import scoring
from memjax.evaluation.harness.prefixes import make_row
from memjax.evaluation.harness.scoring import Scorer
from memjax.sharding import make_mesh
from tests.evaluation.harness.plain import BATCH, CHUNK, make_model, plain_score, plain_tokens


def run(scorer: Scorer, rows) -> list[tuple[float, bool]]:
    answers = [None] * len(rows)
    for batch in scorer.run(rows):
        for number, log_prob, greedy in zip(batch.requests, batch.log_probs, batch.greedy, strict=True):
            assert answers[number] is None
            answers[number] = (float(log_prob), bool(greedy))
    return answers


def ragged(rng: np.random.Generator) -> list[tuple[list[int], int]]:
    """(tokens, scored): rows of 2 to 151 tokens, some behind one preamble, of those some behind one document."""
    draw = lambda count: rng.integers(0, 256, count).tolist()
    preamble, document = draw(50), draw(60)
    rows = [(draw(2), 1), (draw(41), 40), (draw(151), 150), (draw(151), 3)]
    rows += [(preamble + draw(41), 2), (preamble + draw(41), 30)]
    rows += [(preamble + document + draw(41), 5) for _ in range(6)]
    return rows


def test_equal_to_one_row_at_a_time(model, rng):
    rows = ragged(rng)
    scorer = Scorer(model, batch_size=BATCH, chunk=CHUNK)
    answers = run(scorer, [make_row(*row) for row in rows])
    for (tokens, scored), (log_prob, _) in zip(rows, answers, strict=True):
        np.testing.assert_allclose(log_prob, plain_score(model, tokens, scored)[0], rtol=2e-5)
    total = sum(len(tokens) - 1 for tokens, _ in rows)
    assert scorer.counts.asked == total
    # Seven rows need not have fed the preamble, nor five the document.
    assert scorer.counts.fed == total - 7 * 50 - 5 * 60


def test_slices_of_a_piece_add_up(rng):
    """A piece of 128 tokens meets the head in two slices; rows are scored in both, in the second, in neither."""
    model, tokens = make_model("attention"), rng.integers(0, 256, 152).tolist()
    answers = run(Scorer(model, batch_size=BATCH, chunk=128), [make_row(tokens, scored) for scored in (151, 100, 3)])
    for (log_prob, greedy), scored in zip(answers, (151, 100, 3), strict=True):
        wanted = plain_score(model, tokens, scored)
        np.testing.assert_allclose(log_prob, wanted[0], rtol=2e-5)
        assert greedy is wanted[1] is False


def test_greedy_means_every_token_of_it(model, rng):
    start = rng.integers(0, 256, 20).tolist()
    likely = plain_tokens(model, start, 20)
    wrong = [*likely[:7], (likely[7] + 1) % 256, *likely[8:]]
    rows = [(start + likely, 20), (start + likely, 1), (start + wrong, 20), (start + wrong, 13)]
    answers = run(Scorer(model, batch_size=BATCH, chunk=CHUNK), [make_row(*row) for row in rows])
    assert [greedy for _, greedy in answers[:3]] == [True, True, False]
    assert [greedy for _, greedy in answers] == [plain_score(model, *row)[1] for row in rows]


def test_states_are_those_after_each_row(model, rng):
    """A row of a batch leaves what it leaves alone: neither padding nor the rows beside it reach its state."""
    rows = [make_row(tokens, 0) for tokens, _ in ragged(rng)]
    scorer = Scorer(model, batch_size=BATCH, chunk=CHUNK)
    together = {
        number: jax.tree.map(lambda leaf, place=place: np.asarray(leaf[:, place]), batch.state)
        for batch in scorer.run(rows)
        for place, number in enumerate(batch.requests)
    }
    for number in (0, 4, 8):
        (alone,) = Scorer(model, batch_size=BATCH, chunk=CHUNK).run(rows[number : number + 1])
        for found, wanted in zip(jax.tree.leaves(together[number]), jax.tree.leaves(alone.state), strict=True):
            np.testing.assert_allclose(found, np.asarray(wanted[:, 0]), atol=1e-5)


def test_neither_order_nor_company_matters(rng):
    model, rows = make_model("gated_delta_net"), [make_row(*row) for row in ragged(rng)]
    scorer = Scorer(model, batch_size=BATCH, chunk=CHUNK)
    wanted, order = run(scorer, rows), rng.permutation(len(rows))
    shuffled = run(scorer, [rows[i] for i in order])
    few = run(scorer, rows[3:8])
    log_probs = lambda answers: [log_prob for log_prob, _ in answers]
    np.testing.assert_allclose(log_probs(shuffled), [wanted[i][0] for i in order], rtol=2e-5)
    np.testing.assert_allclose(log_probs(few), log_probs(wanted[3:8]), rtol=2e-5)


def test_any_lengths_compile_as_many_programs_as_there_are_sizes(rng):
    model = make_model("attention")
    scorer = Scorer(model, batch_size=2, chunk=CHUNK)
    before = scoring.feed._cache_size()
    for length in (2, 17, 33, 64, 65, 100, 129, 200, 333):
        run(scorer, [make_row(rng.integers(0, 256, length).tolist(), 1), make_row([1, 2], 1)])
    assert scoring.feed._cache_size() - before == 2  # of 64 and 16 tokens


@pytest.mark.parametrize(("length", "pieces"), [(0, 0), (1, 16), (16, 16), (17, 32), (33, 64), (70, 80), (97, 128)])
def test_pieces_waste_less_than_they_hold(length, pieces):
    assert sum(scoring._pieces(length, 64)) == pieces
    assert sum(scoring._pieces(length + 640, 64)) == pieces + 640


def test_rows_are_spread_over_a_mesh(rng):
    model, rows = make_model("attention"), [make_row(*row) for row in ragged(rng)]
    wanted = run(Scorer(model, batch_size=BATCH, chunk=CHUNK), rows)
    with jax.set_mesh(make_mesh(data=2, fsdp=2)):
        found = run(Scorer(model, batch_size=BATCH, chunk=CHUNK), rows)
    np.testing.assert_allclose([a for a, _ in found], [a for a, _ in wanted], rtol=2e-5)


@pytest.mark.parametrize(("option", "said"), [({"batch_size": 0}, "batch_size"), ({"chunk": 48}, "power of two")])
def test_sizes_that_cannot_be_are_refused(option, said):
    with pytest.raises(ValueError, match=said):
        Scorer(make_model("attention"), **option)
