"""The flags of eval.py."""

import dataclasses

from memjax.evaluation.harness.request import HarnessRequest


@dataclasses.dataclass(frozen=True)
class Flags(HarnessRequest):
    """Evaluates the newest checkpoint of each run and writes report.json, .html and .png into its directory."""

    tasks: tuple[str, ...] = ()
    """Names of the tasks to evaluate; none: those that the run itself asks for. A task that the run does not ask for is
    taken at its default setting. `text` is the evaluation split of a run on text, `extrapolation` its loss in contexts
    up to 32 times as long as the rows it was trained on, `decoding` time per token and memory over context length,
    `needle_map` needles at five depths of texts of three lengths, for runs on bytes."""
    prompt: str | None = None
    """Text that a run on text shall continue; printed, and put into its report."""
    output_dir: str | None = None
    """Directory of the joint report; None: with several runs the folder that holds them all, with one run nowhere."""
