"""lm-evaluation-harness on models of this library, without torch: `HarnessLM(model, tokenizer)`.

The package `lm_eval` (extra `eval`) is imported on the first use of a name that needs it.
"""

import importlib.util
from typing import TYPE_CHECKING

from memjax.config import ConfigError

if TYPE_CHECKING:
    from memjax.evaluation.harness.adapter import HarnessLM as HarnessLM

PREFIX = "harness/"
"""What the task of a row begins with: the harness asks freely where the task of that name may ask otherwise."""


def require_lm_eval() -> None:
    """Raises ConfigError, in one line, where lm-evaluation-harness is not installed. Imports nothing."""
    if importlib.util.find_spec("lm_eval") is None:
        raise ConfigError("lm-evaluation-harness is not installed: pip install -e '.[eval]'")


def __getattr__(name: str):
    if name != "HarnessLM":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    require_lm_eval()
    from memjax.evaluation.harness.adapter import HarnessLM

    return HarnessLM
