"""The front of the loaders: what is checked before anything runs, and what is said about the data."""

import dataclasses
import inspect
import subprocess
import sys

import pytest

from memjax.data import (
    TaskData,
    TaskSlice,
    TextData,
    TfdsData,
    check,
    config,
    describe,
    eval_loader,
    scored,
    train_loader,
)
from memjax.tasks.mqar import MQARConfig


@pytest.fixture
def text(tmp_path):
    (tmp_path / "input.txt").write_text("some text, more text, and the end of the text")
    return TextData(path=str(tmp_path), length=8, cache_dir=str(tmp_path / "cache"))


def test_check_passes_what_fits(text):
    check(text, 257)
    check(TaskData(), 8192)


def test_check_vocabulary(text):
    with pytest.raises(ValueError, match=r"tokenizer bytes needs a vocabulary of 257 tokens, .* vocab_size 256"):
        check(text, 256)
    mixture = TaskData((TaskSlice(MQARConfig(vocab_size=256)), TaskSlice(MQARConfig(vocab_size=512))))
    with pytest.raises(ValueError, match=r"data.train.1: mqar needs a vocabulary of 512 tokens"):
        check(mixture, 256)


@pytest.mark.parametrize(
    "data, message",
    [
        (TaskData(()), "data.train is empty"),
        (TaskData((TaskSlice(MQARConfig(), 0),)), "data.train.0: examples must be positive"),
        (TextData(path=".", length=0), "data.length must be positive"),
        (TextData(path=".", eval_fraction=1.0), "data.eval_fraction must lie between 0 and 1"),
        (TextData(), "data.path is empty"),
    ],
)
def test_check_refuses(data, message):
    with pytest.raises(ValueError, match=message):
        check(data, 10_000)
    with pytest.raises(ValueError, match=message):
        train_loader(data, batch_size=2, seed=0)


def test_missing_files_are_found_before_training(text):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        check(dataclasses.replace(text, path="nowhere"), 257)
    with pytest.raises(FileNotFoundError, match=r"none.json"):
        check(dataclasses.replace(text, tokenizer="none.json"), 257)


def test_batch_and_seed(text):
    with pytest.raises(ValueError, match="batch_size 3 must be a positive multiple of the 2 processes"):
        train_loader(text, batch_size=3, seed=0, process_count=2)
    with pytest.raises(ValueError, match="batch_size 0"):
        eval_loader(text, batch_size=0)
    with pytest.raises(ValueError, match="seed must not be negative"):
        train_loader(text, batch_size=2, seed=-1)


def test_tasks_have_no_evaluation_split():
    with pytest.raises(ValueError, match="no evaluation split"):
        eval_loader(TaskData(), batch_size=2)


def test_scored(text):
    slices = [MQARConfig(), MQARConfig(pairs=8), MQARConfig(length=128, pairs=2)]
    assert scored(TaskData(tuple(TaskSlice(s) for s in slices))) == {64: 8, 128: 2}
    assert scored(text) is None


def test_describe(text):
    assert describe(text) == "training on input.txt without the last tenth, which evaluates"
    data = TaskData((TaskSlice(MQARConfig(), 1000), TaskSlice(MQARConfig(pairs=8))))
    assert describe(data) == ("training on mqar (pairs 4, length 64; 1000 rows), mqar (pairs 8, length 64; fresh rows)")
    assert describe(TfdsData("books")) == "training on books train, evaluating on books validation"


def test_every_field_is_documented():
    """The command line shows the line under each field."""
    source = inspect.getsource(config)
    for kind in (TaskSlice, TaskData, TextData, TfdsData):
        for field in dataclasses.fields(kind):
            body = source.split(f"class {kind.__name__}")[1].split("@dataclasses")[0]
            assert body.split(f"    {field.name}: ")[1].splitlines()[1].startswith('    """'), field.name


def test_heavy_readers_are_imported_only_where_needed():
    program = (
        "import sys, memjax.data; "
        "print([m for m in ('tensorflow', 'tensorflow_datasets', 'pyarrow', 'tokenizers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.strip() == "[]"
