"""Which files train and evaluate, and damaged compressed files."""

import gzip
from pathlib import Path

import pytest
import zstandard

from memjax.data import TextData, splits
from memjax.data.files import blocks


def folder(tmp_path, *names):
    for name in names:
        (tmp_path / name).write_text("text\n")
    return TextData(path=str(tmp_path))


def names(parts):
    return [(Path(p.path).name, p.share) for p in parts]


IGNORED = ("README.md", "LICENSE.txt", "UPSTREAM_README.txt", "LICENSE_CC-BY.txt", "SHA256SUMS", ".hidden.txt")


@pytest.mark.parametrize(
    "present, train, evaluation, note",
    [
        (
            ["train-0.txt", "train-1.txt", "valid.txt", "test.txt"],
            [("train-0.txt", "all"), ("train-1.txt", "all")],
            [("valid.txt", "all")],
            "training on train-0.txt, train-1.txt, evaluating on valid.txt",
        ),
        (["train.txt", "test.txt"], [("train.txt", "all")], [("test.txt", "all")], "evaluating on test.txt"),
        (
            ["valid.txt", "test.txt"],
            [("valid.txt", "all")],
            [("test.txt", "all")],
            "training on valid.txt, evaluating on test.txt (there is no train* file",
        ),
        (["input.txt"], [("input.txt", "first")], [("input.txt", "last")], "input.txt without the last tenth"),
        (["train.jsonl.gz"], [("train.jsonl.gz", "first")], [("train.jsonl.gz", "last")], "last tenth"),
        (["a.txt", "b.txt"], [("a.txt", "first"), ("b.txt", "first")], [("a.txt", "last"), ("b.txt", "last")], "each"),
        (
            ["Train.txt", "valid.jsonl", "notes.txt"],
            [("Train.txt", "all")],
            [("valid.jsonl", "all")],
            "left out: notes.txt",
        ),
    ],
)
def test_folder_rules(tmp_path, present, train, evaluation, note):
    found = splits(folder(tmp_path, *present, *IGNORED))
    assert names(found.train) == train
    assert names(found.evaluation) == evaluation
    assert note in found.note and "\n" not in found.note
    assert not [name for name in IGNORED if name in found.note]


def test_single_file(tmp_path):
    folder(tmp_path, "train.txt", "valid.txt")
    found = splits(TextData(path=str(tmp_path / "train.txt"), eval_fraction=0.25))
    assert names(found.train + found.evaluation) == [("train.txt", "first"), ("train.txt", "last")]
    assert "without the last 0.25 of it" in found.note


@pytest.mark.parametrize(
    "present, path, error, message",
    [
        ([], "", FileNotFoundError, "no data file in this folder"),
        (["README.md"], "", FileNotFoundError, "no data file in this folder"),
        (["train.txt"], "nowhere.txt", FileNotFoundError, "no such file or folder: .*nowhere.txt"),
        (["train.csv"], "", ValueError, "train.csv: unsupported kind of file; supported are .txt"),
        (["book.pdf"], "book.pdf", ValueError, "book.pdf: unsupported"),
        (["book.txt.bz2"], "book.txt.bz2", ValueError, "unsupported"),
    ],
)
def test_refused(tmp_path, present, path, error, message):
    folder(tmp_path, *present)
    with pytest.raises(error, match=message) as caught:
        splits(TextData(path=str(tmp_path / path)))
    assert "\n" not in str(caught.value)


def test_no_path():
    with pytest.raises(ValueError, match=r"data.path is empty"):
        splits(TextData())


TEXT = bytes(range(32, 127)) * 30000
COMPRESS = {".gz": gzip.compress, ".zst": lambda b: zstandard.compress(b[:1000]) + zstandard.compress(b[1000:])}


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_blocks(tmp_path, suffix):
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(COMPRESS.get(suffix, bytes)(TEXT))
    assert b"".join(blocks(path)) == TEXT


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("damage", [lambda b: b[:-5], lambda b: b"xx" + b[2:]])
def test_damaged_blocks(tmp_path, suffix, damage):
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(damage(COMPRESS[suffix](TEXT)))
    with pytest.raises(ValueError, match=r"a.txt.* damaged or cut-short"):
        list(blocks(path))
