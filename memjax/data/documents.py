"""Documents out of files: each an iterator of text blocks, so that a file never has to fit into memory."""

import codecs
import contextlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from memjax.data.config import TextData, TfdsData
from memjax.data.files import Part, blocks, kind

Document = Iterator[str]  # the text of one document, in blocks; to be read before the next one is asked for


def documents(part: Part, data: TextData) -> Iterator[Document]:
    """Yields the documents of a file or of its share; ValueError, saying where, if the file is empty or broken."""
    path = Path(part.path)
    reader = {".txt": _txt, ".jsonl": _jsonl, ".parquet": _parquet}[kind(path)[0]]
    size = {".txt": _bytes, ".jsonl": _lines, ".parquet": _rows}[kind(path)[0]]
    start, stop = 0, None
    if part.share != "all":
        total = size(path)
        cut = total - max(1, round(total * data.eval_fraction))
        if total and cut < 1:
            raise ValueError(f"{path}: too small to give a part of it to the evaluation")
        if reader is _txt:
            cut = _character_border(path, cut)
        start, stop = (0, cut) if part.share == "first" else (cut, None)
    yield from reader(path, start, stop, data.text_field)


def tfds_documents(source: Any, data: TfdsData) -> Iterator[Document]:
    """Yields the rows of a `tfds.data_source` as documents; ValueError if the feature is missing or no text."""
    for index in range(len(source)):
        row, where = source[index], f"tfds {data.name} row {index}"
        text = _field(row, data.text_field, where)
        yield iter([text.decode("utf-8") if isinstance(text, bytes) else _string(text, data.text_field, where)])


def _bytes(path: Path) -> int:
    return path.stat().st_size if not kind(path)[1] else sum(map(len, blocks(path)))


def _window(stream: Iterable[bytes], start: int, stop: int | None) -> Iterator[bytes]:
    """The bytes [start, stop) of a stream of blocks."""
    position = 0
    for block in stream:
        end = len(block) if stop is None else min(len(block), stop - position)
        if (piece := block[max(start - position, 0) : max(end, 0)]) != b"":
            yield piece
        position += len(block)
        if stop is not None and position >= stop:
            return


def _character_border(path: Path, offset: int) -> int:
    """The first offset from `offset` on that does not stand inside a UTF-8 character (10xxxxxx continues one)."""
    for byte in b"".join(_window(blocks(path), offset, offset + 4)):
        if byte & 0xC0 != 0x80:
            break
        offset += 1
    return offset


def _txt(path: Path, start: int, stop: int | None, field: str) -> Iterator[Document]:
    stream = _window(blocks(path), start, stop)
    first = next(stream, None)
    if first is None:
        raise ValueError(f"{path}: empty file")
    yield _decode(path, start, first, stream)


def _decode(path: Path, offset: int, first: bytes, rest: Iterator[bytes]) -> Document:
    decoder = codecs.getincrementaldecoder("utf-8")()
    block: bytes | None = first
    while block is not None:
        held = len(decoder.getstate()[0])  # bytes of a character that the last block began
        following = next(rest, None)
        try:
            yield decoder.decode(block, final=following is None)
        except UnicodeDecodeError as error:
            at = offset - held + error.start
            raise ValueError(f"{path}: not UTF-8 at byte {at} (0x{error.object[error.start]:02x})") from error
        offset += len(block)
        block = following


def _numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers from 1."""
    number, pending = 0, b""
    for block in blocks(path):
        *whole, pending = (pending + block).split(b"\n")
        for line in whole:
            number += 1
            if line.strip():
                yield number, line
    if pending.strip():
        yield number + 1, pending


def _lines(path: Path) -> int:
    return sum(1 for _ in _numbered_lines(path))


def _jsonl(path: Path, start: int, stop: int | None, field: str) -> Iterator[Document]:
    empty = True
    for index, (number, line) in enumerate(_numbered_lines(path)):
        empty = False
        if stop is not None and index >= stop:
            return
        if index < start:
            continue
        where = f"{path} line {number}"
        try:
            row = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(f"{where}: not UTF-8 at byte {error.start} of the line") from error
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: not JSON: {error.msg} at column {error.colno}") from error
        yield iter([_string(_field(row, field, where), field, where)])
    if empty:
        raise ValueError(f"{path}: empty file")


def _field(row: Any, field: str, where: str) -> Any:
    if not isinstance(row, dict):
        raise ValueError(f"{where}: a row must be an object, got {type(row).__name__}")
    if field not in row:
        raise ValueError(f"{where}: no field {field!r}; there are: {', '.join(map(str, row)) or 'none'}")
    return row[field]


def _string(text: Any, field: str, where: str) -> str:
    if text is None:  # a missing value is an empty document
        return ""
    if not isinstance(text, str):
        raise ValueError(f"{where}: field {field!r} must hold text, got {type(text).__name__}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{where}: field {field!r} holds half a surrogate pair, which is not text") from error
    return text


@contextlib.contextmanager
def _parquet_file(path: Path):
    import pyarrow
    import pyarrow.parquet

    with contextlib.ExitStack() as stack:
        source: Any = path
        if kind(path)[1]:  # the format seeks, so a compressed file is unpacked first
            source = stack.enter_context(tempfile.TemporaryFile())
            for block in blocks(path):
                source.write(block)
            source.seek(0)
        try:
            yield stack.enter_context(pyarrow.parquet.ParquetFile(source))
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"{path}: not a readable parquet file: {str(error).splitlines()[0]}") from error


def _rows(path: Path) -> int:
    with _parquet_file(path) as file:
        return file.metadata.num_rows


def _parquet(path: Path, start: int, stop: int | None, field: str) -> Iterator[Document]:
    with _parquet_file(path) as file:
        if not file.metadata.num_rows:
            raise ValueError(f"{path}: empty file")
        names = file.schema_arrow.names
        if field not in names:
            raise ValueError(f"{path}: no column {field!r}; there are: {', '.join(names) or 'none'}")
        index = 0
        for batch in file.iter_batches(batch_size=1024, columns=[field]):
            for text in batch.column(0).to_pylist():
                if index >= start and (stop is None or index < stop):
                    yield iter([_string(text, field, f"{path} row {index}")])
                index += 1
