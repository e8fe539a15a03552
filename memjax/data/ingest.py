"""Text turned into ArrayRecord once: a cache of pieces, written atomically, keyed by what went into it."""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

from memjax.data import documents, files
from memjax.data.config import StoredData, TextData, TfdsData
from memjax.data.pieces import pieces, to_record
from memjax.data.tokenizers import Tokenizer, load_tokenizer

FORMAT = 1  # of what is stored; a new number makes every cache anew


@dataclasses.dataclass(frozen=True)
class Ingested:
    """The pieces of a dataset on disk.

    Attributes:
        folder: holds train.array_record, evaluation.array_record and rows.npy.
        pieces: number of pieces in each split.
        text_bytes: UTF-8 bytes of text in each split.
    """

    folder: Path
    pieces: dict[str, int]
    text_bytes: dict[str, int]

    def records(self, split: str) -> str:
        """Returns the ArrayRecord file of "train" or "evaluation"."""
        return str(self.folder / f"{split}.array_record")

    def evaluation_rows(self) -> np.ndarray:
        """Returns int64 [rows + 1]: row r of the evaluation holds pieces rows[r] to rows[r + 1] - 1."""
        return np.load(self.folder / "rows.npy")


def ingest(data: StoredData) -> Ingested:
    """Returns the pieces of `data`, writing them first if this content was never cut this way.

    The cache appears under its final name by one rename when it is complete, so a killed run leaves nothing that is
    trusted, and processes that start together write it once.

    Raises:
        FileNotFoundError, ValueError: one line that says which file is missing, empty or broken, and where.
    """
    tokenizer = load_tokenizer(data)
    sources, key = _sources(data)
    root = _cache(data.cache_dir)
    folder = root / key
    if not folder.is_dir():
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / f"{key}.lock"):
            if not folder.is_dir():
                _write(folder, sources, tokenizer, data.length)
    meta = json.loads((folder / "meta.json").read_text())
    return Ingested(folder, meta["pieces"], meta["text_bytes"])


Sources = dict[str, Iterator[documents.Document]]


def _sources(data: StoredData) -> tuple[Sources, str]:
    """The documents of each split, not yet read, and the key of what they and their cutting are."""
    how = [FORMAT, data.length, data.text_field]
    if data.tokenizer != "bytes":
        how += [_digest(Path(data.tokenizer).expanduser()), data.end_token]
    if isinstance(data, TfdsData):
        parts, what = _tfds_sources(data)
    else:
        found = files.splits(data)
        parts = {"train": _chain(found.train, data), "evaluation": _chain(found.evaluation, data)}
        what = [
            [(part.share, files.kind(Path(part.path)), _digest(Path(part.path))) for part in split]
            for split in (found.train, found.evaluation)
        ]
        how.append(data.eval_fraction if any(p.share != "all" for p in found.train) else None)
    return parts, hashlib.sha256(json.dumps([how, what]).encode()).hexdigest()[:24]


def _chain(parts: tuple[files.Part, ...], data: TextData) -> Iterator[documents.Document]:
    for part in parts:
        yield from documents.documents(part, data)


def _tfds_sources(data: TfdsData) -> tuple[Sources, list[Any]]:
    from memjax.data.tfds import open_split

    sources, what = {}, []
    for split, name in (("train", data.train_split), ("evaluation", data.eval_split)):
        rows, identity = open_split(data, name)
        sources[split] = documents.tfds_documents(rows, data)
        what.append(identity)
    return sources, what


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cache(named: str) -> Path:
    if named:
        return Path(named).expanduser() / "text"
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "memjax" / "text"


@contextlib.contextmanager
def _locked(path: Path):
    """Holds an exclusive lock, which the system releases when the process ends, however it ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write(folder: Path, sources: Sources, tokenizer: Tokenizer, length: int) -> None:
    # Under the lock, what an earlier process of this host left behind is dead. Another host's lock may not be seen on
    # a shared disk: its folder has another name and is left alone, and the first rename wins.
    prefix = f"{folder.name}.{socket.gethostname()}.tmp"
    for dead in folder.parent.glob(f"{prefix}*"):
        shutil.rmtree(dead, ignore_errors=True)
    working = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    try:
        meta: dict[str, dict[str, int]] = {"pieces": {}, "text_bytes": {}}
        for split, source in sources.items():
            lengths, text_bytes = _write_split(working / f"{split}.array_record", source, tokenizer, length)
            if not text_bytes:
                raise ValueError(f"the {split} split holds no text")
            meta["pieces"][split], meta["text_bytes"][split] = len(lengths), text_bytes
            if split == "evaluation":
                np.save(working / "rows.npy", row_starts(lengths, length))
        (working / "meta.json").write_text(json.dumps(meta))
        for path in [*working.iterdir(), working]:
            _sync(path)
        try:
            working.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(working, ignore_errors=True)


def _write_split(
    path: Path, source: Iterable[documents.Document], tokenizer: Tokenizer, length: int
) -> tuple[list[int], int]:
    """Writes the pieces of one split; returns the number of predicted tokens in each, and the bytes of text."""
    lengths, text_bytes = [], 0
    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
    try:
        for document in source:
            for piece in pieces(document, tokenizer, length):
                writer.write(to_record(piece))
                lengths.append(piece.shape[1] - 1)
                text_bytes += int(piece[1, 1:].sum())
    finally:
        writer.close()
    return lengths, text_bytes


def row_starts(lengths: list[int], capacity: int) -> np.ndarray:
    """Returns the first piece of each row, and the number of pieces, when pieces fill rows in order (next fit).

    Args:
        lengths: tokens in each piece, at most `capacity`.
        capacity: tokens in a row.
    """
    starts, used = [], capacity
    for index, length in enumerate(lengths):
        if used + length > capacity:
            starts.append(index)
            used = 0
        used += length
    return np.array([*starts, len(lengths)], np.int64)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
