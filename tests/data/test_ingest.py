"""The cache of pieces: written once, atomically, keyed by content; a killed run leaves nothing that is trusted."""

import concurrent.futures
import dataclasses
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from memjax.data import TextData, ingest
from memjax.data.ingest import row_starts


@pytest.fixture
def data(tmp_path):
    (tmp_path / "train.txt").write_text("some text to learn from " * 20)
    (tmp_path / "valid.txt").write_text("some text to check with " * 9)
    return TextData(path=str(tmp_path), length=16, cache_dir=str(tmp_path / "cache"))


@pytest.fixture
def writes(monkeypatch):
    """Counts how often a cache is written."""
    calls, write = [], ingest._write
    monkeypatch.setattr(ingest, "_write", lambda *args: (calls.append(args[0]), write(*args)))
    return calls


def test_written_once_and_reused(data, writes):
    first = ingest.ingest(data)
    assert first.text_bytes == {"train": 480, "evaluation": 216}
    assert first.pieces == {"train": 31, "evaluation": 14}  # (480 + 1) / 16, rounded up
    assert ingest.ingest(data) == first and len(writes) == 1


@pytest.mark.parametrize("change", ["text", "length", "valid", "format"])
def test_what_changes_the_pieces_changes_the_cache(data, writes, tmp_path, change, monkeypatch):
    ingest.ingest(data)
    if change == "text":
        (tmp_path / "train.txt").write_text("other text to learn from" * 20)
    elif change == "valid":
        (tmp_path / "valid.txt").write_text("other text to check with" * 9)
    elif change == "length":
        data = dataclasses.replace(data, length=17)
    else:
        monkeypatch.setattr(ingest, "FORMAT", -1)
    ingest.ingest(data)
    assert len(writes) == 2 and writes[0] != writes[1]


def test_moving_the_files_keeps_the_cache(data, writes, tmp_path):
    first = ingest.ingest(data)
    (tmp_path / "moved").mkdir()
    for name in ("train.txt", "valid.txt"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    assert ingest.ingest(dataclasses.replace(data, path=str(tmp_path / "moved"))) == first and len(writes) == 1


def test_together_they_write_once(data, writes):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(ingest.ingest, [data] * 4))
    assert len(writes) == 1 and all(r == results[0] for r in results)


def test_a_cache_that_another_host_finished_first_is_kept(data, tmp_path):
    done = ingest.ingest(data)
    before = (done.folder / "meta.json").stat().st_ino
    sources, _ = ingest._sources(data)
    ingest._write(done.folder, sources, ingest.load_tokenizer(data), data.length)
    assert (done.folder / "meta.json").stat().st_ino == before
    assert sorted(p.name for p in done.folder.parent.iterdir()) == [done.folder.name, f"{done.folder.name}.lock"]


def test_a_killed_ingestion_leaves_nothing_trusted(data, tmp_path, writes):
    program = f"""
import os, signal
from memjax.data import TextData, ingest
ingest.row_starts = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
ingest.ingest(TextData(path={data.path!r}, length=16, cache_dir={data.cache_dir!r}))
"""
    killed = subprocess.run([sys.executable, "-c", program], env=os.environ, timeout=100)
    assert killed.returncode == -signal.SIGKILL
    root = tmp_path / "cache" / "text"
    left = [p.name for p in root.iterdir() if p.is_dir()]
    assert len(left) == 1 and ".tmp" in left[0]
    done = ingest.ingest(data)
    assert done.text_bytes["train"] == 480 and len(writes) == 1
    assert [p.name for p in root.iterdir() if p.is_dir()] == [done.folder.name]


def test_a_broken_file_leaves_nothing(data, tmp_path):
    (tmp_path / "valid.txt").write_bytes(b"fine at first \xff")
    with pytest.raises(ValueError, match=r"valid.txt: not UTF-8 at byte 14"):
        ingest.ingest(data)
    assert not [p for p in (tmp_path / "cache" / "text").iterdir() if p.is_dir()]


def test_rows_without_text(data, tmp_path):
    (tmp_path / "valid.txt").unlink()
    (tmp_path / "valid.jsonl").write_text('{"text": ""}\n{"text": null}\n')
    with pytest.raises(ValueError, match="the evaluation split holds no text"):
        ingest.ingest(data)


def test_default_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert ingest._cache("") == tmp_path / "memjax" / "text"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ingest._cache("") == tmp_path / ".cache" / "memjax" / "text"


def test_row_starts():
    np.testing.assert_array_equal(row_starts([4, 4, 3, 1, 4, 2, 2, 2], 4), [0, 1, 2, 4, 5, 7, 8])
    np.testing.assert_array_equal(row_starts([], 4), [0])
