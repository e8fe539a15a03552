"""What `eval.py --harness` asks for. Nothing here imports lm-evaluation-harness, nor does a check of local tasks."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from memjax.config import ConfigError, TrainConfig
from memjax.data import StoredData, load_tokenizer
from memjax.evaluation.harness import catalogue, require_lm_eval
from memjax.evaluation.harness.cloze import WINDOW
from memjax.evaluation.harness.documents import documents


@dataclasses.dataclass(frozen=True)
class HarnessRequest:
    """Which tasks of lm-evaluation-harness, at which settings. Raises ConfigError for a setting that cannot be."""

    harness: tuple[str, ...] = ()
    """Tasks of lm-evaluation-harness (extra `eval`), for runs on text: lambada_local, xquad_cloze, niah, babilong,
    cloze:FILE.jsonl (lines with context, question, answer), which need no network; xquad_cloze_twice and
    cloze_twice:FILE.jsonl show the text twice; any other name is the harness's own (swde, fda, squad_completion, ...),
    which fetches its data. Without --tasks nothing else is evaluated."""
    data_dir: str | None = None
    """Folder of the files that the local tasks read (lambada/, xquad/, babi/, wikitext-2/ or tinyshakespeare/); None:
    for each file the first of $MEMJAX_DATA, ./data and ../shared/data that has it."""
    limit: int = 0
    """Examples of each harness task, and of each setting of niah and babilong; 0: all there are, 100 of a setting."""
    harness_lengths: tuple[int, ...] = (1024,)
    """Bytes of a row of niah and of babilong, prompt and answer."""
    cloze_window: int = WINDOW
    """Tokens of a document that a cloze keeps, centred on the answer; the published ones have a context of 2048 less
    50, in GPT-2's tokens."""

    def __post_init__(self):
        if self.limit < 0:
            raise ConfigError(f"--limit must be at least 0 (all), got {self.limit}")
        if not self.harness_lengths or min(self.harness_lengths) < 1:
            raise ConfigError(f"--harness-lengths must be at least 1, got {list(self.harness_lengths)}")
        if self.cloze_window < 1:
            raise ConfigError(f"--cloze-window must be at least 1, got {self.cloze_window}")


def as_request(harness: HarnessRequest | Sequence[str] | None) -> HarnessRequest:
    """`harness` as a request; names alone are taken at the default settings."""
    if isinstance(harness, HarnessRequest):
        return harness
    return HarnessRequest((harness,) if isinstance(harness, str) else tuple(harness or ()))


def check(run_dir: str | Path, config: TrainConfig, request: HarnessRequest) -> None:
    """Raises, in one line, what keeps a run from what is asked: found without the model, and without a network.

    ConfigError: no lm-evaluation-harness, a run that is not on text, an unknown name, a setting that cannot be.
    FileNotFoundError or ValueError: a local file that is missing or broken.
    """
    if not request.harness:
        return
    if not isinstance(config.data, StoredData):
        raise ConfigError(f"{run_dir}: --harness needs a run that was trained on text; this one has no tokenizer")
    require_lm_eval()
    tokenizer, one = load_tokenizer(config.data), dataclasses.replace(request, limit=1)
    for name in dict.fromkeys(request.harness):
        if catalogue.is_local(name):
            documents(name, one, tokenizer)
        else:
            catalogue.find(name)
