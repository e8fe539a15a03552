"""Language modelling on a tfds text dataset, without TensorFlow."""

import dataclasses
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from memjax.data import TfdsData, check, eval_loader, train_loader

TEXTS = [f"Document {i}, with an é." for i in range(20)]


class MemjaxTestBooks(tfds.core.GeneratorBasedBuilder):
    """A text dataset."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"text": tfds.features.Text(), "label": tfds.features.Scalar(dtype=np.int32)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(TEXTS[:15]), "validation": self._generate_examples(TEXTS[15:])}

    def _generate_examples(self, texts):
        for i, text in enumerate(texts):
            yield i, {"text": text, "label": i}


@pytest.fixture
def data(tmp_path):
    tfds.disable_progress_bar()
    return TfdsData("memjax_test_books", data_dir=str(tmp_path / "tfds"), length=16, cache_dir=str(tmp_path / "cache"))


def test_train_and_evaluate(data):
    batch = next(iter(train_loader(data, batch_size=2, seed=0)))
    assert batch["tokens"].shape == (2, 16)
    total = sum(int(b["bytes"].sum()) for b in eval_loader(data, batch_size=2))
    assert total == sum(len(t.encode()) for t in TEXTS[15:])
    part = dataclasses.replace(data, eval_split="train[:40%]")
    total = sum(int(b["bytes"].sum()) for b in eval_loader(part, batch_size=2))
    assert abs(total - sum(len(t.encode()) for t in TEXTS[:6])) <= 6
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("name", "", "data.name is empty"),
        ("name", "memjax_no_such_dataset", "tfds knows no dataset 'memjax_no_such_dataset'"),
        ("text_field", "body", "no feature 'body'; there are: text, label"),
        ("text_field", "label", "field 'label' must hold text"),
        ("eval_split", "exam", "no split 'exam'; there are: train, validation"),
        ("eval_split", "train[:x]", "split train"),
    ],
)
def test_refused(data, field, value, message):
    with pytest.raises(ValueError, match=message) as caught:
        train_loader(dataclasses.replace(data, **{field: value}), batch_size=2, seed=0)
    assert "\n" not in str(caught.value)


def test_check(data):
    with pytest.raises(ValueError, match="tokenizer bytes needs a vocabulary of 257"):
        check(data, 100)
