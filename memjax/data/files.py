"""Which files train and which evaluate, and their bytes: plain, .gz or .zst, streamed."""

import dataclasses
import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from memjax.data.config import TextData

FORMATS = (".txt", ".jsonl", ".parquet")
COMPRESSIONS = (".gz", ".zst")
SUPPORTED = "supported are .txt, .jsonl and .parquet, each also as .gz or .zst"
BLOCK = 1 << 20  # bytes read at a time
_NOT_DATA = re.compile(r"^\.|readme|licen[sc]e|copying|notice|changelog|(sha\d+|md5)sums", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Part:
    """A file, or the share of it that a split uses: "last" is its last tenth (`eval_fraction`), "first" the rest."""

    path: str
    share: Literal["all", "first", "last"] = "all"


@dataclasses.dataclass(frozen=True)
class Splits:
    """Which parts train, which evaluate, and one line that says so."""

    train: tuple[Part, ...]
    evaluation: tuple[Part, ...]
    note: str


def kind(path: Path) -> tuple[str, str]:
    """Returns (format, compression) of a file, e.g. (".txt", ".gz") or (".txt", ""); ("", "") if not supported."""
    suffixes = [s.lower() for s in path.suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
    return (suffixes[-1], compression) if suffixes and suffixes[-1] in FORMATS else ("", "")


def splits(data: TextData) -> Splits:
    """Decides which files train and which evaluate.

    A single file gives its last tenth (`eval_fraction`) for evaluation. In a folder (its subfolders are not searched):
    train* trains, valid* evaluates, else test*; without train*, valid* trains and test* evaluates; where only one
    split is named, or none, each of its files gives its last tenth. Hidden files, README, LICENSE and checksum files
    are no data, and files that name no split are left out where others do.

    Raises:
        FileNotFoundError: the path, or a data file in it, is missing.
        ValueError: a file has an unsupported suffix.
    """
    if not data.path:
        raise ValueError("data.path is empty: give a text file or a folder of them")
    path = Path(data.path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"data.path: no such file or folder: {path}")
    if path.is_file():
        if not kind(path)[0]:
            raise ValueError(f"{path}: unsupported kind of file; {SUPPORTED}")
        return _tenth([path], data.eval_fraction)
    return _folder(path, data.eval_fraction)


def _folder(folder: Path, fraction: float) -> Splits:
    files = sorted(p for p in folder.iterdir() if p.is_file() and not _NOT_DATA.search(p.name))
    named = {s: [p for p in files if p.name.lower().startswith(s)] for s in ("train", "valid", "test")}
    unknown = [p for s in named.values() for p in s if not kind(p)[0]]
    if unknown:
        raise ValueError(f"{unknown[0]}: unsupported kind of file; {SUPPORTED}")
    found = [s for s in named if named[s]]
    others = [p for p in files if not any(p in split for split in named.values()) and kind(p)[0]]
    if not found:
        if not others:
            raise FileNotFoundError(f"{folder}: no data file in this folder; {SUPPORTED}")
        return _tenth(others, fraction)
    left_out = f"; left out: {_names(others)}" if others else ""
    if len(found) == 1:
        return _tenth(named[found[0]], fraction, left_out)
    train, evaluation = named[found[0]], named[found[1]]
    reason = "" if found[0] == "train" else f" (there is no train* file in {folder})"
    note = f"training on {_names(train)}, evaluating on {_names(evaluation)}{reason}{left_out}"
    return Splits(tuple(Part(str(p)) for p in train), tuple(Part(str(p)) for p in evaluation), note)


def _tenth(files: list[Path], fraction: float, left_out: str = "") -> Splits:
    share = "tenth" if fraction == 0.1 else f"{fraction:.3g} of it"
    each = " of each" if len(files) > 1 else ""
    note = f"training on {_names(files)} without the last {share}{each}, which evaluates{left_out}"
    first, last = (tuple(Part(str(p), s) for p in files) for s in ("first", "last"))
    return Splits(first, last, note)


def _names(files: list[Path]) -> str:
    shown = ", ".join(p.name for p in files[:3])
    return shown if len(files) <= 3 else f"{shown} and {len(files) - 3} more"


def blocks(path: Path) -> Iterator[bytes]:
    """Yields the (decompressed) bytes of a file; ValueError if its compression is damaged or cut short."""
    read = {".gz": _gzip, ".zst": _zstd}.get(kind(path)[1], _plain)
    try:
        yield from read(path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: damaged or cut-short compressed file ({error})") from error


def _plain(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def _gzip(path: Path) -> Iterator[bytes]:
    with gzip.open(path, "rb") as file:
        while block := file.read(BLOCK):
            yield block


def _zstd(path: Path) -> Iterator[bytes]:
    import zstandard

    # the library's own stream reader ends silently on a file that is cut short, so the frames are watched here
    frame = None
    for block in _plain(path):
        while block:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            try:
                yield frame.decompress(block)
            except zstandard.ZstdError as error:
                raise EOFError(str(error)) from error
            block, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
    if frame is not None:
        raise EOFError("the last frame has no end")
