"""Requests of lm-evaluation-harness: in batches that share prefixes, against one at a time.

    python -m benchmarks.harness [--rounds 5]

Two hundred choices (fifty questions with four answers each, behind three examples that all share) are scored and fifty
questions are continued, by an untrained Gated DeltaNet on bytes: time does not depend on what it has learnt. The loop
is the same code with a batch of one, asked one request at a time, so that nothing is shared and nothing waits.
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import timing
from benchmarks.report import Result

BATCHED, ONE = "batched", "one at a time"


@dataclasses.dataclass(frozen=True)
class Size:
    """Attributes:
    width, layers: of the model.
    questions, choices, shots: how many there are.
    letters: of a question; an answer has a tenth of them.
    steps: tokens of a continuation.
    batch_size: rows in a call of the batched side.
    """

    width: int = 64
    layers: int = 2
    questions: int = 50
    choices: int = 4
    shots: int = 3
    letters: int = 200
    steps: int = 32
    batch_size: int = 16


def questions(size: Size) -> tuple[list[tuple[str, str]], list[tuple[str, dict[str, Any]]]]:
    """Arguments of requests to `loglikelihood` and to `generate_until`."""
    rng = np.random.default_rng(0)
    text = lambda count: "".join(rng.choice(list("abcdefghijklmnopqrst "), count))
    ask = lambda: f"Q: {text(int(size.letters * rng.uniform(0.5, 1.5)))}?\nA:"
    answer = lambda: f" {text(max(1, size.letters // 10))}"
    shots = "".join(f"{ask()}{answer()}\n\n" for _ in range(size.shots))
    contexts = [shots + ask() for _ in range(size.questions)]
    generation = {"until": ["\n\n"], "max_gen_toks": size.steps}
    return [(c, answer()) for c in contexts for _ in range(size.choices)], [(c, generation) for c in contexts]


def run(rounds: int, size: Size = Size(), mixer: Any = None) -> Result:
    """Times both sides in turns, with `mixer` or a Gated DeltaNet; their answers must agree. Compiling is not timed."""
    from flax import nnx

    from memjax.mixers import GatedDeltaNetConfig
    from memjax.models import LM, BlockConfig, LMConfig

    block = BlockConfig(mixer=mixer or GatedDeltaNetConfig())
    config = LMConfig(width=size.width, blocks=(block,), repeats=size.layers, tie_embeddings=False)
    model = LM(config, rngs=nnx.Rngs(0))
    kinds = zip(("loglikelihood", "generate_until"), questions(size), strict=True)
    found = [_race(model, kind, arguments, rounds, size.batch_size) for kind, arguments in kinds]
    name = type(block.mixer).__name__.removesuffix("Config")
    title = f"harness, {name} of width {size.width}, {size.layers} layers, bytes, batch {size.batch_size}"
    return Result("harness", title, [row for row, _ in found], tuple(note for _, note in found))


def _race(model, kind: str, arguments: list, rounds: int, batch_size: int) -> tuple[dict[str, Any], str]:
    """A row of the table and its note."""
    from lm_eval.api.instance import Instance

    from memjax.data.tokenizers import ByteTokenizer
    from memjax.evaluation.harness import HarnessLM

    requests = [Instance(kind, {}, given, number) for number, given in enumerate(arguments)]
    answers, counts = {}, []

    def batched():
        lm = HarnessLM(model, ByteTokenizer(), batch_size=batch_size)
        answers[BATCHED] = getattr(lm, kind)(requests, disable_tqdm=True)
        counts.append(lm.counts)

    def one():
        lm = HarnessLM(model, ByteTokenizer(), batch_size=1)
        answers[ONE] = [getattr(lm, kind)([request], disable_tqdm=True)[0] for request in requests]

    seconds = timing.alternate({BATCHED: batched, ONE: one}, rounds)
    _agree(answers)
    row = {
        "requests": f"{len(requests)} {kind}",
        "s": timing.median(seconds[BATCHED]),
        "one at a time s": timing.median(seconds[ONE]),
        **timing.speed_up(seconds, BATCHED, ONE),
        "tokens asked": counts[-1].asked,
        "fed": counts[-1].fed,
        "saved": f"{1 - counts[-1].fed / counts[-1].asked:.0%}",
    }
    return row, timing.note(rounds, seconds)


def _agree(answers: dict[str, list]) -> None:
    ours, loops = answers[BATCHED], answers[ONE]
    if isinstance(ours[0], str):
        assert ours == loops
    else:
        np.testing.assert_allclose([a for a, _ in ours], [a for a, _ in loops], rtol=1e-4)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.harness", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="timed calls of each side (default 5)")
    asked = parser.parse_args(arguments)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    timing.limit_threads()
    print(run(asked.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
