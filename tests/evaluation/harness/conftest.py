"""The models and the tokenizer that these tests share."""

import pytest

from memjax.data.tokenizers import ByteTokenizer
from memjax.models import LM
from tests.evaluation.harness.plain import MIXERS, make_model


@pytest.fixture(scope="session", params=list(MIXERS))
def model(request) -> LM:
    return make_model(request.param)


@pytest.fixture(scope="session")
def tokenizer() -> ByteTokenizer:
    return ByteTokenizer()
