"""Task batches: a pure function of (seed, index), fixed sets, orders, processes, resume."""

import collections
import hashlib
import json

import numpy as np
import pytest

from memjax.data import TaskData, TaskSlice, synthetic, train_loader
from memjax.data.synthetic import TaskBatches, row_length
from memjax.tasks.mqar import MQARConfig

SHORT, LONG = MQARConfig(vocab_size=64, length=16, pairs=2), MQARConfig(vocab_size=64, length=32, pairs=4)
FRESH = TaskData((TaskSlice(SHORT), TaskSlice(LONG)))
# 3 batches of 4 (2 rows are dropped) and 5 batches of 4
SLICES = (TaskSlice(SHORT, 14), TaskSlice(LONG, 20))


def batches(data, n, *, seed=0, size=4, **process):
    iterator = iter(train_loader(data, batch_size=size, seed=seed, **process))
    return [next(iterator) for _ in range(n)]


def key(batch):
    return hashlib.sha256(batch["tokens"].tobytes()).hexdigest()[:12]


def test_form():
    for batch in batches(FRESH, 6):
        assert batch.keys() == {"tokens", "targets", "segment_ids"}
        assert all(a.dtype == np.int32 and a.shape in ((4, 16), (4, 32)) for a in batch.values())
        assert (batch["segment_ids"] == 1).all()
        assert ((batch["targets"] >= 0).sum(1) == {16: 2, 32: 4}[batch["tokens"].shape[1]]).all()


@pytest.mark.parametrize("data", [FRESH, TaskData(SLICES), TaskData(SLICES, order="sequential")])
def test_resume_is_exact(data):
    loader = train_loader(data, batch_size=4, seed=5)
    iterator = iter(loader)
    seen = [next(iterator) for _ in range(9)]
    state = json.loads(json.dumps(iterator.get_state()))
    expected = [key(next(iterator)) for _ in range(9)]
    resumed = iter(train_loader(data, batch_size=4, seed=5))
    next(resumed)
    resumed.set_state(state)
    assert [key(next(resumed)) for _ in range(9)] == expected
    assert [key(b) for b in batches(data, 9, seed=5)] == [key(b) for b in seen]
    assert [key(b) for b in batches(data, 9, seed=6)] != [key(b) for b in seen]


@pytest.mark.parametrize("data", [FRESH, TaskData(SLICES)])
def test_random_access(data):
    source = TaskBatches(data, batch_size=4, seed=1, rows=range(4))
    backwards = [key(source[i]) for i in reversed(range(20))]
    assert backwards[::-1] == [key(b) for b in batches(data, 20, seed=1)]


@pytest.mark.parametrize("data", [FRESH, TaskData(SLICES)])
def test_any_number_of_processes_gives_the_same_batches(data):
    parts = [batches(data, 10, process_index=p, process_count=2) for p in (0, 1)]
    for whole, *halves in zip(batches(data, 10), *parts, strict=True):
        for name, value in whole.items():
            np.testing.assert_array_equal(np.concatenate([h[name] for h in halves]), value)


def test_a_fixed_set_comes_back_every_epoch():
    epochs = np.array([key(b) for b in batches(TaskData(SLICES), 24)], object).reshape(3, 8)
    assert set(epochs[0]) == set(epochs[1]) == set(epochs[2]) and len(set(epochs[0])) == 8
    assert len({tuple(e) for e in epochs}) == 3  # mixed anew


def test_sequential_runs_slice_after_slice():
    lengths = [b["tokens"].shape[1] for b in batches(TaskData(SLICES, order="sequential"), 16)]
    assert lengths == ([16] * 3 + [32] * 5) * 2


def test_mixed_holds_every_slice_in_proportion():
    lengths = [b["tokens"].shape[1] for b in batches(TaskData(SLICES), 80)]
    assert collections.Counter(lengths) == {16: 30, 32: 50}
    assert lengths[:8] != [16] * 3 + [32] * 5


@pytest.mark.parametrize("order", ["shuffled", "sequential"])
def test_fresh_slices_take_turns_and_never_repeat(order):
    found = batches(TaskData(FRESH.train, order=order), 40)
    lengths = [b["tokens"].shape[1] for b in found]
    assert all(set(lengths[i : i + 2]) == {16, 32} for i in range(0, 40, 2))
    assert (lengths == [16, 32] * 20) == (order == "sequential")
    assert len({key(b) for b in found}) == 40


def test_slices_of_one_task_differ():
    data = TaskData((TaskSlice(SHORT, 4), TaskSlice(SHORT, 4)), order="sequential")
    first, second = batches(data, 2)
    assert key(first) != key(second)


@pytest.mark.parametrize("limit", [0, 10_000])
def test_keeping_batches_in_memory_changes_nothing(monkeypatch, limit):
    expected = [key(b) for b in batches(TaskData(SLICES), 24)]
    monkeypatch.setattr(synthetic, "KEPT_BYTES", limit)
    source = TaskBatches(TaskData(SLICES), batch_size=4, seed=0, rows=range(4))
    found = []
    for i in range(24):
        batch = source[i]
        found.append(key(batch))
        batch["tokens"][:] = -5  # a careless user
    assert 0 <= source._kept_bytes <= limit and bool(limit) == bool(source._kept)
    assert found == expected


def test_row_length():
    assert (row_length(SHORT), row_length(LONG)) == (16, 32)


def test_refused():
    with pytest.raises(ValueError, match="every slice a number of examples"):
        batches(TaskData((TaskSlice(SHORT), TaskSlice(LONG, 40))), 1)
    with pytest.raises(ValueError, match=r"data.train.1: 20 examples do not fill one batch of 21 rows"):
        batches(TaskData((TaskSlice(LONG, 40), TaskSlice(LONG, 20))), 1, size=21)
