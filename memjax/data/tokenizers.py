"""Tokenizers: bytes, or a JSON file of the `tokenizers` library; both can say how many bytes each token stands for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32

from memjax.data.config import Data, StoredData

END_TOKENS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "[EOS]", "<|eos|>", "<|im_end|>", "[SEP]")

Counted = tuple[Int32[np.ndarray, "T"], Int32[np.ndarray, "T"]]  # token ids, and the bytes that each stands for


@runtime_checkable
class Tokenizer(Protocol):
    """What a tokenizer offers: `end` is the id that stands before, between and after documents."""

    vocab_size: int
    end: int

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def encode_counted(self, text: str) -> Counted:
        """Returns ids and the UTF-8 bytes of `text` that each stands for; without ids the bytes stay uncounted."""
        ...


class ByteTokenizer:
    """UTF-8 bytes as ids 0 to 255, and 256 for the end of a document."""

    vocab_size = 257
    end = 256

    def encode(self, text: str) -> list[int]:
        return list(text.encode("utf-8"))

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text; ends of documents are left out and broken characters become U+FFFD."""
        return bytes(int(i) for i in ids if 0 <= i < 256).decode("utf-8", errors="replace")

    def encode_counted(self, text: str) -> Counted:
        ids = np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.int32)
        return ids, np.ones_like(ids)


class FileTokenizer:
    """A `tokenizers` JSON file; no special tokens are added to the text."""

    def __init__(self, path: str, end_token: str = ""):
        """Reads `path`; FileNotFoundError or ValueError if it is missing, broken, or has no end-of-document token."""
        import tokenizers

        if not Path(path).expanduser().is_file():
            raise FileNotFoundError(f"data.tokenizer: no such file: {path} (give `bytes` or a tokenizers JSON file)")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(Path(path).expanduser()))
        except Exception as error:  # the library raises bare Exceptions
            raise ValueError(f"data.tokenizer: {path} is not a tokenizers JSON file: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.vocab_size = 1 + max(self._tokenizer.get_vocab().values(), default=-1)
        self.end = self._find_end(path, end_token)

    def _find_end(self, path: str, end_token: str) -> int:
        for name in (end_token,) if end_token else END_TOKENS:
            if (found := self._tokenizer.token_to_id(name)) is not None:
                return found
        missing = f"no token {end_token!r}" if end_token else f"none of {', '.join(END_TOKENS)}"
        raise ValueError(f"data.end_token: {path} has {missing}; name its end-of-document token there")

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode([int(i) for i in ids if i != self.end], skip_special_tokens=False)

    def encode_counted(self, text: str) -> Counted:
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        ids = np.array(encoding.ids, np.int32)
        if not len(ids):
            return ids, ids
        points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        widths = 1 + (points >= 0x80) + (points >= 0x800) + (points >= 0x10000)
        before = np.concatenate([[0], np.cumsum(widths)])  # bytes before each character
        # Text that no token claims (dropped spaces) goes to the token after it, or to the last one; a character that
        # several tokens share goes to the first of them.
        ends = np.maximum.accumulate(np.array(encoding.offsets)[:, 1])
        ends[-1] = len(points)
        return ids, np.diff(before[ends], prepend=0).astype(np.int32)


def load_tokenizer(data: Data) -> Tokenizer:
    """Returns the tokenizer that `data` names; ValueError or FileNotFoundError, in one line, if it cannot serve."""
    if not isinstance(data, StoredData):
        raise ValueError("only text has a tokenizer; tasks have token ids of their own and no tokenizer")
    return ByteTokenizer() if data.tokenizer == "bytes" else FileTokenizer(data.tokenizer, data.end_token)
