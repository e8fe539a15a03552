"""Runs side by side, each in a process with cores of its own: a small model leaves most cores idle."""

import multiprocessing
import os
import signal
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any

from benchmarks.family import measure
from memjax.config import TrainConfig
from memjax.training import keep_compiled_programs

ENDED = ("stopped", "interrupted")  # by a signal, after which no other run is begun


def train_all(runs: Mapping[str, TrainConfig], seconds: float, workers: int) -> str:
    """Trains and evaluates `runs`, in their order, `workers` at a time; what is done is not done again.

    Ctrl-C and SIGTERM reach the processes of this one's group too: those save and leave, and nothing more is begun.

    Args:
        runs: {name: its configuration}.
        seconds: time of one run in this call, compilation included.
        workers: number of processes, each with its share of the cores that this one may use.

    Returns the last run's status, or "stopped" or "interrupted" where a signal ended one.
    """
    context = multiprocessing.get_context("spawn")  # jax must not be forked
    shares = context.Queue()
    for cores in _shares(workers):
        shares.put(cores)
    left, running, status = list(runs.items()), set[Future[str]](), ""
    with ProcessPoolExecutor(workers, context, _begin, (shares,)) as pool:
        try:
            while running or (left and status not in ENDED):
                while left and len(running) < workers and status not in ENDED:
                    running.add(pool.submit(_train, *left.pop(0), seconds))
                done, running = wait(running, return_when=FIRST_COMPLETED)
                found = [future.result() for future in done]
                status = next((each for each in [status, *found] if each in ENDED), found[-1])
        except KeyboardInterrupt:
            status = "interrupted"
    return status


def _shares(workers: int) -> list[set[int]]:
    """The cores of each process; empty sets where cores cannot be chosen, or are fewer than processes."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < workers:
        return [set() for _ in range(workers)]
    return [set(cores[i::workers]) for i in range(workers)]


def _begin(shares: Any) -> None:
    """In a new process: takes its cores, and leaves Ctrl-C to the run, which saves."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if cores := shares.get():
        os.sched_setaffinity(0, cores)  # before XLA counts them
    keep_compiled_programs()


def _train(name: str, config: TrainConfig, seconds: float) -> str:
    return measure(name, config, seconds, lambda line: print(f"{name}, seed {config.seed}: {line}", flush=True))[1]
