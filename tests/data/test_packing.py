"""Packed rows: segment ids, targets that stay inside a document, exact resume, an evaluation that counts every byte."""

import gzip
import json
import random

import numpy as np
import pytest

from memjax.data import TextData, eval_loader, train_loader
from memjax.data.packing import EvaluationBatches

END = 256
LENGTH = 24


@pytest.fixture
def data(tmp_path):
    """Documents of 1 to 60 letters: many share a row, some need several."""
    draw = random.Random(0)
    for split, count in (("train", 120), ("valid", 41)):
        rows = ["".join(draw.choices("abcdefgh é", k=draw.randint(1, 60))) for _ in range(count)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(json.dumps({"text": r}) for r in rows), encoding="utf-8")
    return TextData(path=str(tmp_path), length=LENGTH, cache_dir=str(tmp_path / "cache"))


def texts(data, split):
    with open(f"{data.path}/{split}.jsonl") as file:
        return [json.loads(line)["text"].encode() for line in file]


def take(iterator, n):
    return [next(iterator) for _ in range(n)]


def assert_same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def pieces_of(batches):
    """The pieces in some batches, each as (first input, targets); checks the form of every row."""
    found = []
    for batch in batches:
        for tokens, targets, counts, segments in zip(
            *(batch[n] for n in ("tokens", "targets", "bytes", "segment_ids")), strict=True
        ):
            used = int((segments > 0).sum())
            assert (segments[:used] > 0).all() and (segments[used:] == 0).all()  # padding only at the end of a row
            assert (tokens[used:] == 0).all() and (targets[used:] == -1).all() and (counts[used:] == 0).all()
            assert np.unique(segments[:used]).tolist() == list(range(1, segments.max() + 1))
            for segment in range(1, segments.max() + 1):
                inside = segments == segment
                np.testing.assert_array_equal(tokens[inside][1:], targets[inside][:-1])
                np.testing.assert_array_equal(counts[inside], targets[inside] != END)
                found.append((int(tokens[inside][0]), tuple(targets[inside].tolist())))
    return found


def cut(texts):
    """What the pieces must be."""
    whole = [[END, *t, END] for t in texts]
    return sorted((w[i], tuple(w[i + 1 : i + 1 + LENGTH])) for w in whole for i in range(0, len(w) - 1, LENGTH))


def test_rows_hold_whole_pieces(data):
    batches = take(iter(train_loader(data, batch_size=4, seed=0)), 60)
    for batch in batches:
        assert {n: (a.shape, a.dtype) for n, a in batch.items()} == dict.fromkeys(
            ("tokens", "targets", "bytes", "segment_ids"), ((4, LENGTH), np.int32)
        )
    assert max(b["segment_ids"].max() for b in batches) > 2  # really packed
    assert np.mean([(b["segment_ids"] == 0).mean() for b in batches]) < 0.25
    assert set(pieces_of(batches)) == set(cut(texts(data, "train")))


def test_an_epoch_has_every_piece_once_in_another_order(data):
    expected = cut(texts(data, "train"))
    # the packer holds rows back, so look at the pieces in the order in which they come
    iterator = iter(train_loader(data, batch_size=1, seed=0))
    seen = pieces_of(take(iterator, 400))
    epochs = len(seen) // len(expected)
    assert epochs >= 2
    counts = {p: seen.count(p) / expected.count(p) for p in set(expected)}
    assert max(counts.values()) - min(counts.values()) <= 2
    other = pieces_of(take(iter(train_loader(data, batch_size=1, seed=1)), 20))
    assert other != seen[: len(other)]


@pytest.mark.parametrize(("batch_size", "consumed"), [(2, 0), (2, 1), (2, 7), (2, 30), (40, 3)])
def test_resume_is_exact(data, consumed, batch_size):
    loader = train_loader(data, batch_size=batch_size, seed=3)
    iterator = iter(loader)
    take(iterator, consumed)
    state = json.loads(json.dumps(iterator.get_state()))
    expected = take(iterator, 8)
    resumed = iter(train_loader(data, batch_size=batch_size, seed=3))
    take(resumed, 2)  # an iterator that was already used can be set as well
    resumed.set_state(state)
    assert json.loads(json.dumps(resumed.get_state())) == state
    assert_same(take(resumed, 8), expected)


def test_processes_share_an_epoch(data):
    loaders = [train_loader(data, batch_size=4, seed=0, process_index=p, process_count=2) for p in (0, 1)]
    halves = [take(iter(loader), 5) for loader in loaders]
    assert halves[0][0]["tokens"].shape == (2, LENGTH)
    first, second = (set(pieces_of(h)) for h in halves)
    repeated = {p for p in first if cut(texts(data, "train")).count(p) > 1}
    assert not (first & second) - repeated


@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_evaluation_has_every_byte_once(data, batch_size):
    batches = list(eval_loader(data, batch_size=batch_size))
    assert all(b["tokens"].shape == (batch_size, LENGTH) for b in batches)
    assert sum(int(b["bytes"].sum()) for b in batches) == sum(map(len, texts(data, "valid")))
    assert sorted(pieces_of(batches)) == cut(texts(data, "valid"))
    assert_same(batches, list(eval_loader(data, batch_size=batch_size)))
    empty = [(b["segment_ids"] == 0).all(1).sum() for b in batches]
    assert not any(empty[:-1]) and empty[-1] < batch_size


def test_evaluation_is_the_same_for_any_number_of_processes(data):
    whole = list(eval_loader(data, batch_size=4))
    halves = [list(eval_loader(data, batch_size=4, process_index=p, process_count=2)) for p in (0, 1)]
    joined = [{n: np.concatenate([a[n], b[n]]) for n in a} for a, b in zip(*halves, strict=True)]
    assert_same(joined, whole)


def test_evaluation_batches_are_random_access(data):
    from memjax.data.ingest import ingest

    source = EvaluationBatches(ingest(data), length=LENGTH, batch_size=4, rows=range(4))
    assert_same([source[i] for i in range(len(source))], list(eval_loader(data, batch_size=4)))


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_the_last_tenth_of_one_file(tmp_path, name):
    text = "".join(random.Random(0).choices("abcdefghé", k=1400)).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    data = TextData(path=str(tmp_path), length=64, cache_dir=str(tmp_path / "cache"))
    held_out = b"".join(
        bytes(t for t in targets if t < 256) for _, targets in pieces_of(eval_loader(data, batch_size=2))
    )
    assert text.endswith(held_out) and abs(len(held_out) - len(text) / 10) <= 1
    training = take(iter(train_loader(data, batch_size=2, seed=0)), 20)
    assert len(set(pieces_of(training))) == -(-(len(text) - len(held_out) + 1) // 64)


def test_too_few_pieces_for_the_processes(tmp_path):
    (tmp_path / "a.txt").write_text("short text")
    data = TextData(path=str(tmp_path), length=64, cache_dir=str(tmp_path / "cache"))
    with pytest.raises(ValueError, match="1 pieces of text are too few for 2 processes"):
        train_loader(data, batch_size=2, seed=0, process_index=0, process_count=2)
