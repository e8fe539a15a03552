"""Bytes and `tokenizers` files: round trips, the end of a document, bytes per token exact in sum."""

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from memjax.data import TaskData, TextData, load_tokenizer

TEXT = "Grüße, 世界 🙂! The  quick\n\nbrown fox —  the end.   "


def byte_level(path, special="<|endoftext|>"):
    """A byte-level BPE that splits characters over tokens."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=[special], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(["the quick brown fox", "the end of the fox"], trainer)
    made.save(str(path))
    return str(path)


def word_level(path):
    """A tokenizer that lowers letters and drops every space."""
    made = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1, "end": 2, "</s>": 7}, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(path))
    return str(path)


def test_bytes():
    tokenizer = load_tokenizer(TextData())
    assert (tokenizer.vocab_size, tokenizer.end) == (257, 256)
    assert tokenizer.encode("aé") == [97, 0xC3, 0xA9]
    assert tokenizer.decode([256, *tokenizer.encode(TEXT), 256]) == TEXT
    assert tokenizer.decode([97, 0xC3]) == "a\ufffd"
    ids, counts = tokenizer.encode_counted(TEXT)
    assert ids.tolist() == tokenizer.encode(TEXT) and counts.tolist() == [1] * len(TEXT.encode())


def test_byte_level_file(tmp_path):
    tokenizer = load_tokenizer(TextData(tokenizer=byte_level(tmp_path / "t.json")))
    assert tokenizer.end == 0
    ids = tokenizer.encode(TEXT)
    assert max(ids) < tokenizer.vocab_size <= 300
    assert tokenizer.decode([tokenizer.end, *ids, tokenizer.end]) == TEXT


@pytest.mark.parametrize("make", [byte_level, word_level])
@pytest.mark.parametrize("text", [TEXT, "   the", "the   ", "世", "the end"])
def test_bytes_per_token_are_exact_in_sum(tmp_path, make, text):
    tokenizer = load_tokenizer(TextData(tokenizer=make(tmp_path / "t.json")))
    ids, counts = tokenizer.encode_counted(text)
    assert ids.tolist() == tokenizer.encode(text)
    assert counts.sum() == len(text.encode()) and counts.min() >= 0
    assert ids.dtype == counts.dtype == np.int32


def test_bytes_per_token_where_spaces_are_dropped(tmp_path):
    tokenizer = load_tokenizer(TextData(tokenizer=word_level(tmp_path / "t.json")))
    ids, counts = tokenizer.encode_counted("the  ÄÄ end ")
    assert ids.tolist() == [1, 0, 2] and counts.tolist() == [3, 6, 5]
    assert tokenizer.vocab_size == 8  # ids need not be dense
    ids, counts = tokenizer.encode_counted("   ")
    assert len(ids) == len(counts) == 0


def test_end_token(tmp_path):
    named = byte_level(tmp_path / "t.json", special="<doc>")
    with pytest.raises(ValueError, match=r"data\.end_token: .*t\.json has none of <\|endoftext\|>, "):
        load_tokenizer(TextData(tokenizer=named))
    assert load_tokenizer(TextData(tokenizer=named, end_token="<doc>")).end == 0
    with pytest.raises(ValueError, match="has no token '<nope>'"):
        load_tokenizer(TextData(tokenizer=named, end_token="<nope>"))


def test_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file: .*none.json"):
        load_tokenizer(TextData(tokenizer=str(tmp_path / "none.json")))
    (tmp_path / "bad.json").write_text('{"a": 1}')
    with pytest.raises(ValueError, match=r"bad.json is not a tokenizers JSON file"):
        load_tokenizer(TextData(tokenizer=str(tmp_path / "bad.json")))
    with pytest.raises(ValueError, match="no tokenizer"):
        load_tokenizer(TaskData())
