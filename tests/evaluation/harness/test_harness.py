"""The package without its extra: importing costs nothing, using it says what is missing."""

import subprocess
import sys

import pytest

from memjax.config import ConfigError
from memjax.evaluation import harness


@pytest.mark.slow
def test_importing_does_not_import_lm_eval():
    code = "import sys, memjax.evaluation.harness; print('lm_eval' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_a_missing_package_is_one_line_that_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[eval\]'"):
        _ = harness.HarnessLM
    with pytest.raises(ConfigError, match="not installed"):
        harness.require_lm_eval()


def test_no_other_names():
    with pytest.raises(AttributeError, match="no attribute Harness"):
        _ = harness.Harness
