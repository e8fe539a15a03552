"""Trees hold each row once and share what is worth it, and never what is scored."""

import numpy as np
import pytest

from memjax.evaluation.harness.prefixes import LEAST, LEVELS, Node, make_row, prefix_trees


def paths(nodes, before=()):
    """(request, the nodes on its path)."""
    for node in nodes:
        here = (*before, node)
        if node.request is not None:
            yield node.request, here
        yield from paths(node.children, here)


def joined(path: tuple[Node, ...], field: str) -> list[int]:
    return [int(x) for node in path for x in getattr(node.row, field)]


def fed(nodes) -> int:
    return sum(len(node.row.tokens) + fed(node.children) for node in nodes)


def test_a_row_predicts_its_last_tokens():
    row = make_row([9, 5, 6, 7], 2)
    assert row.tokens.tolist() == [9, 5, 6]
    assert row.targets.tolist() == [-1, 6, 7]
    assert make_row([9, 5], 0).targets.tolist() == [-1]


def random_rows(rng: np.random.Generator):
    """Rows that branch off one another anywhere, some equal, some scored from their first token on."""
    rows = [rng.integers(0, 3, 100).tolist()]
    for _ in range(60):
        base = rows[rng.integers(len(rows))]
        rows.append(base[: rng.integers(len(base) + 1)] + rng.integers(0, 3, rng.integers(1, 60)).tolist())
    rows += rows[:5]
    return [make_row(row, int(rng.choice([0, 1, 5, len(row) - 1]))) for row in rows if len(row) > 1]


@pytest.mark.parametrize("seed", range(5))
def test_every_row_hangs_on_a_tree_once(seed):
    rows = random_rows(np.random.default_rng(seed))
    found = dict(paths(prefix_trees(rows)))
    assert sorted(request for request, _ in paths(prefix_trees(rows))) == list(range(len(rows)))
    for request, path in found.items():
        assert joined(path, "tokens") == rows[request].tokens.tolist()
        assert joined(path, "targets") == rows[request].targets.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_what_is_shared_is_long_unscored_and_shared_by_two(seed):
    rows = random_rows(np.random.default_rng(seed))
    shared = {id(node): node for _, path in paths(prefix_trees(rows)) for node in path[:-1]}
    assert shared
    for node in shared.values():
        assert len(node.row.tokens) >= LEAST
        assert (node.row.targets == -1).all()
        assert len(node.children) >= 2
    assert max(len(path) for _, path in paths(prefix_trees(rows))) <= LEVELS + 1
    assert fed(prefix_trees(rows)) < sum(len(row.tokens) for row in rows)


def test_a_preamble_documents_and_choices_are_each_fed_once():
    rng = np.random.default_rng(0)
    preamble = rng.integers(0, 99, 200).tolist()
    documents = [[i, *rng.integers(0, 99, 79).tolist()] for i in range(3)]
    questions = [[i, *rng.integers(0, 99, 49).tolist()] for i in range(2)]
    choices = [[5, 6], [7, 8, 9]]
    rows = [make_row(preamble + d + q + c, len(c)) for d in documents for q in questions for c in choices]
    # The last token of a question predicts the first of an answer: it is fed with the answer, once for each.
    ends = 3 * 2 * sum(len(choice) for choice in choices)
    assert fed(prefix_trees(rows)) == 200 + 3 * 80 + 3 * 2 * 49 + ends


def test_short_prefixes_are_not_worth_a_call():
    rows = [make_row([1] * (LEAST - 1) + [i, i], 1) for i in range(2, 5)]
    assert all(not node.children for node in prefix_trees(rows))
    rows = [make_row([1] * LEAST + [i, i], 1) for i in range(2, 5)]
    assert [len(node.children) for node in prefix_trees(rows)] == [3]


def test_no_rows_no_trees():
    assert prefix_trees([]) == ()
