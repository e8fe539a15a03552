"""Evaluates runs: `python eval.py RUN_DIR [RUN_DIR ...] [--tasks NAME ...] [--harness NAME ...] [--prompt TEXT] ...`.

Prints a short table and writes report.json, report.html and report.png, with further pictures beside it, into each
run's directory; several runs also get a joint report, one curve per run, in --output-dir (left out: the folder that
holds all the runs). Exit status, MEMJAX_TRACEBACK and compiled programs as in train.py.
"""

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memjax.evaluation import Flags

PROGRAM = "eval.py RUN_DIR [RUN_DIR ...]"


def main(argv: Sequence[str]) -> int:
    """Runs the command line `argv` (without the program's name); returns the exit status."""
    from memjax.config import ConfigError, fail, parse_flags
    from memjax.evaluation import Flags

    try:
        runs = list(itertools.takewhile(lambda argument: not argument.startswith("-"), argv))
        flags = parse_flags(Flags(), argv[len(runs) :], program=PROGRAM)
        if not runs:
            raise ConfigError(f"no run directory given: {PROGRAM} [--flag value ...]; --help explains the flags")
        evaluate(runs, flags)
    except (ValueError, OSError) as error:
        return fail(error)
    return 0


def evaluate(runs: Sequence[str], flags: "Flags") -> None:
    """Evaluates each of `runs` and writes the joint report. What cannot work is found before a model is loaded."""
    from memjax import evaluation
    from memjax.training import keep_compiled_programs

    keep_compiled_programs()
    asked = {"names": flags.tasks or None, "prompt": flags.prompt, "harness": flags if flags.harness else None}
    directory = evaluation.joint_directory(runs, flags.output_dir)
    for run in runs:
        evaluation.check_request(run, **asked)
    reports = []
    for run in runs:
        reports.append(evaluation.evaluate_run(run, **asked))
        if flags.prompt is not None:
            print(f"\n{flags.prompt}{reports[-1]['continuation']}\n")
        print(f"report: {_files(Path(run))}\n", flush=True)
    if directory is not None:
        evaluation.join_reports(runs, reports, directory)
        print(f"joint report: {_files(directory)}")


def _files(directory: Path) -> str:
    return ", ".join(str(directory / f"report.{kind}") for kind in ("json", "html", "png"))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
