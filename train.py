"""Trains what a config file describes, or goes on where the run in its output directory was.

    python train.py CONFIG.py [--flag value ...]        --help explains every flag

Exit status: 0 done, already done, or stopped by SIGTERM (saved); 1 the run failed; 2 wrong usage; 130 Ctrl-C (saved;
a second Ctrl-C leaves at once with what is on disk). Errors are one line on standard error, MEMJAX_TRACEBACK=1 shows
where they come from. Compiled programs are kept in JAX_COMPILATION_CACHE_DIR, by default ~/.cache/memjax/xla. Several
processes: see memjax/training/distributed.py.
"""

import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Runs the command line `argv` (without the program's name); returns the exit status."""
    from memjax import config as configs

    try:
        config = configs.parse(argv)
        configs.validate(config)
    except configs.ConfigError as error:
        return configs.fail(error, 2)
    from memjax.training import NonFiniteError

    try:
        return train(config)
    except (NonFiniteError, ValueError, OSError, ImportError, NotImplementedError) as error:
        return configs.fail(error, 1)


def train(config) -> int:
    """Trains, then shows a sample if the run is on text; returns the exit status."""
    from memjax import data, evaluation
    from memjax.training import distributed, fit, keep_compiled_programs

    keep_compiled_programs()
    distributed.join()
    data.check(config.data, config.model.vocab_size)
    result = fit(config, evaluators=evaluation.evaluators(config))
    messages = {
        "done": f"done: {result.step} steps in {config.output_dir}",
        "already done": f"already done: {result.step} steps in {config.output_dir} (more with --steps)",
        "stopped": f"stopped and saved at step {result.step}; run again to go on",
        "interrupted": f"interrupted and saved at step {result.step}; run again to go on",
    }
    if result.status == "done":
        text = evaluation.sample(result.model, config)
        if text:
            print(text)
    print(messages[result.status], flush=True)
    return 130 if result.status == "interrupted" else 0


if __name__ == "__main__":
    try:
        status = main(sys.argv[1:])
    except KeyboardInterrupt:
        status = 130
    if status == 130:
        os._exit(status)  # at once: writers of checkpoints are not waited for, an unfinished one is never trusted
    sys.exit(status)
