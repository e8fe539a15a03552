"""Pictures from idx files: reading, the split, batches, errors of one line."""

import dataclasses
import gzip
import struct

import numpy as np
import pytest

from memjax.data import DigitData, check, describe, digits, eval_loader, scored, train_loader


def write_digits(folder, count=60, seed=0):
    """Made-up pictures whose mean brightness is their class; returns the raw pixels and classes."""
    rng = np.random.default_rng(seed)
    classes = np.arange(count, dtype=np.uint8) % 10
    pixels = (rng.integers(0, 20, size=(count, 28, 28)) + 20 * classes[:, None, None]).astype(np.uint8)
    for kind, array in (("images-idx3", pixels), ("labels-idx1", classes)):
        head = struct.pack(f">BBBB{array.ndim}i", 0, 0, 8, array.ndim, *array.shape)
        (folder / f"t10k-{kind}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()))
    return pixels, classes


@pytest.fixture
def source(tmp_path):
    write_digits(tmp_path)
    return DigitData(path=str(tmp_path), held_out=10)


def test_pictures_are_rows_of_pixels_between_0_and_1(tmp_path):
    pixels, classes = write_digits(tmp_path)
    rows, targets = digits.load(DigitData(path=str(tmp_path), held_out=10))
    assert rows.shape == (60, 784, 1) and rows.dtype == np.float32
    np.testing.assert_allclose(rows[3, 28 * 2 + 5, 0], pixels[3, 2, 5] / 255, rtol=1e-6)
    np.testing.assert_array_equal(targets[:, 0], classes)
    small, _ = digits.load(DigitData(path=str(tmp_path), held_out=10, size=14))
    assert small.shape == (60, 196, 1)
    np.testing.assert_allclose(small[3, 14 * 1 + 2, 0], pixels[3, 2:4, 4:6].mean() / 255, rtol=1e-6)


def test_the_held_out_part_is_fixed_and_disjoint(source):
    train, held_out = digits.split(source)
    assert len(train) == 50 and len(held_out) == 10
    assert sorted([*train, *held_out]) == list(range(60))
    assert not np.array_equal(np.sort(held_out), np.arange(10))


def test_an_epoch_has_each_picture_once_and_the_next_is_mixed_anew(source):
    batches = digits.DigitBatches(source, batch_size=25, seed=0, rows=range(25))
    rows, _ = digits.load(source)
    numbers = {row.tobytes(): n for n, row in enumerate(rows)}
    epochs = [[numbers[r.tobytes()] for i in pair for r in batches[i]["inputs"]] for pair in ((0, 1), (2, 3))]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(digits.split(source)[0])
    assert epochs[0] != epochs[1]
    half = digits.DigitBatches(source, batch_size=25, seed=0, rows=range(5, 10))[2]
    np.testing.assert_array_equal(half["inputs"], batches[2]["inputs"][5:10])


def test_the_loader_goes_on_where_it_was(source):
    first = iter(train_loader(source, batch_size=25, seed=3))
    next(first)
    state, expected = first.get_state(), next(first)
    again = iter(train_loader(source, batch_size=25, seed=3))
    again.set_state(state)
    np.testing.assert_array_equal(next(again)["targets"], expected["targets"])
    assert expected["targets"].dtype == np.int32 and expected["targets"].shape == (25, 1)


def test_evaluation_reads_every_held_out_picture_once(source):
    batches = list(eval_loader(source, batch_size=4))
    targets = np.concatenate([batch["targets"] for batch in batches])[:, 0]
    assert len(targets) == 12 and list(targets[10:]) == [-1, -1]
    np.testing.assert_array_equal(targets[:10], digits.load(source)[1][digits.split(source)[1], 0])
    assert scored(source) is None
    assert describe(source) == f"training on 50 pictures of {source.path}, evaluating on 10 others of it"


def test_what_cannot_serve_is_one_line(source, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    write_digits(broken)
    (broken / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"text"))
    torn = tmp_path / "torn"
    torn.mkdir()
    write_digits(torn)
    name = torn / "t10k-images-idx3-ubyte.gz"
    name.write_bytes(name.read_bytes()[:50])
    for changes, words in (
        ({"path": ""}, "data.path is empty"),
        ({"path": "/nowhere"}, "/nowhere/t10k-images"),
        ({"files": "train"}, "train-images"),
        ({"path": str(broken)}, "not an idx file"),
        ({"path": str(torn)}, "not a whole gzip"),
        ({"held_out": 60}, "held_out"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=words) as raised:
            check(dataclasses.replace(source, **changes), 0)
        assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match="do not fill"):
        train_loader(source, batch_size=51, seed=0)
