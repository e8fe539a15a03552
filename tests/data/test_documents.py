"""Documents out of .txt, .jsonl and .parquet; what is broken is named with its place."""

import dataclasses
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from memjax.data import TextData, files
from memjax.data.documents import documents
from memjax.data.files import Part

TEXTS = [f"row {i}: Grüße, 世界 🙂\n" for i in range(30)]


def write(path, texts, field="text"):
    path_format, compression = files.kind(path)
    plain = path.with_suffix("") if compression else path
    if path_format == ".txt":
        plain.write_text("".join(texts), encoding="utf-8")
    elif path_format == ".jsonl":
        plain.write_text("\n".join(json.dumps({"id": 1, field: t}) for t in texts) + "\n\n", encoding="utf-8")
    else:
        pq.write_table(pa.table({"id": list(range(len(texts))), field: texts}), plain)
    if compression:
        pack = {".gz": gzip.compress, ".zst": zstandard.compress}[compression]
        path.write_bytes(pack(plain.read_bytes()))
    return path


def read(path, share="all", **fields):
    data = TextData(path=str(path), **fields)
    part = dataclasses.replace(Part(str(path)), share=share)
    return ["".join(document) for document in documents(part, data)]


@pytest.mark.parametrize("compression", ["", ".gz", ".zst"])
@pytest.mark.parametrize("kind", [".txt", ".jsonl", ".parquet"])
def test_every_kind(tmp_path, kind, compression, monkeypatch):
    monkeypatch.setattr(files, "BLOCK", 7)  # characters and lines across blocks
    path = write(tmp_path / f"a{kind}{compression}", TEXTS)
    assert read(path) == (["".join(TEXTS)] if kind == ".txt" else TEXTS)
    first, last = read(path, "first"), read(path, "last")
    assert "".join(first + last) == "".join(TEXTS)
    if kind == ".txt":
        share = len(last[0].encode()) / len("".join(TEXTS).encode())
        assert abs(share - 0.1) < 0.01 and len(first) == len(last) == 1
    else:
        assert (first, last) == (TEXTS[:27], TEXTS[27:])


def test_the_last_share_begins_at_a_character(tmp_path):
    for n in range(10, 20):
        path = write(tmp_path / f"{n}.txt", ["🙂" * n])
        first, last = read(path, "first", eval_fraction=0.3)[0], read(path, "last", eval_fraction=0.3)[0]
        assert first + last == "🙂" * n and 0 < len(last) <= round(0.3 * n)


def test_another_field_and_missing_values(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"body": "one"}\n\n{"body": null}\n{"body": "two"}')
    assert read(path, text_field="body") == ["one", "", "two"]


def broken(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.txt", b"", "a.txt: empty file"),
        ("a.jsonl", b"\n\n", "a.jsonl: empty file"),
        ("a.txt", b"fine \xff here", r"a.txt: not UTF-8 at byte 5 \(0xff\)"),
        ("a.txt", b"0123456789012345\xc3(", r"not UTF-8 at byte 16 \(0xc3\)"),
        ("a.txt", b"cut \xf0\x9f\x99", r"not UTF-8 at byte 4 \(0xf0\)"),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": \n', "a.jsonl line 3: not JSON: Expecting value at column"),
        ("a.jsonl", b'{"text": "\xff"}', "a.jsonl line 1: not UTF-8 at byte 10 of the line"),
        ("a.jsonl", b'{"title": "a", "body": "b"}', "line 1: no field 'text'; there are: title, body"),
        ("a.jsonl", b'["text"]', "line 1: a row must be an object, got list"),
        ("a.jsonl", b'{"text": 3}', "line 1: field 'text' must hold text, got int"),
        ("a.jsonl", b'{"text": "\\ud800"}', "surrogate"),
        ("a.parquet", b"PAR1 nonsense", "a.parquet: not a readable parquet file"),
    ],
)
def test_broken_files(tmp_path, name, content, message, monkeypatch):
    monkeypatch.setattr(files, "BLOCK", 3)
    with pytest.raises(ValueError, match=message) as caught:
        read(broken(tmp_path, name, content))
    assert "\n" not in str(caught.value)


def test_parquet_without_the_column_or_rows(tmp_path):
    with pytest.raises(ValueError, match="no column 'text'; there are: id, body"):
        read(write(tmp_path / "a.parquet", TEXTS, "body"))
    with pytest.raises(ValueError, match=r"b.parquet: empty file"):
        read(write(tmp_path / "b.parquet", []))
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "c.parquet")
    with pytest.raises(ValueError, match=r"c.parquet row 0: field 'text' must hold text, got int"):
        read(tmp_path / "c.parquet")


@pytest.mark.parametrize("kind", [".txt", ".jsonl", ".parquet"])
def test_too_small_to_share(tmp_path, kind):
    path = write(tmp_path / f"a{kind}", ["x"])
    with pytest.raises(ValueError, match="too small"):
        read(path, "first")
