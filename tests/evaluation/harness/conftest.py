"""The models and the tokenizers that these tests share."""

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from memjax.data.tokenizers import ByteTokenizer, FileTokenizer
from memjax.models import LM
from tests.evaluation.harness.plain import make_model


# one of them is enough for the second row of versions
@pytest.fixture(scope="session", params=["attention", pytest.param("gated_delta_net", marks=pytest.mark.slow)])
def model(request) -> LM:
    return make_model(request.param)


@pytest.fixture(scope="session")
def tokenizer() -> ByteTokenizer:
    return ByteTokenizer()


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """A byte-level tokenizer with tokens of up to some bytes."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(["the quick brown fox", "the end of the fox", "left left left right right"], trainer)
    path = tmp_path_factory.mktemp("tokenizer") / "pairs.json"
    made.save(str(path))
    return FileTokenizer(str(path))
