"""Runs side by side, each in a process with cores of its own: a small model leaves most cores idle."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import connection
from typing import Any

from benchmarks.family import measure
from memjax.config import TrainConfig
from memjax.training import keep_compiled_programs

_busy = threading.Event()  # in a process of the pool: it has a run

ENDED = ("stopped", "interrupted")  # by a signal, after which no other run is begun


def train_all(runs: Mapping[str, TrainConfig], seconds: float, workers: int) -> str:
    """Trains and evaluates `runs`, in their order, `workers` at a time; what is done is not done again.

    After Ctrl-C or SIGTERM the runs save and leave, and nothing more is begun.

    Args:
        runs: {name: its configuration}.
        seconds: time of one run in this call, compilation included.
        workers: number of processes, each with its share of the cores that this one may use.

    Returns the last run's status, or "interrupted" after a signal, "stopped" where one ended a run alone.
    """
    context = multiprocessing.get_context("spawn")  # jax must not be forked
    shares = context.Queue()
    for cores in _shares(workers):
        shares.put(cores)
    left, running, status = list(runs.items()), set[Future[str]](), ""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
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
            for process in multiprocessing.active_children():
                process.terminate()  # asks its run to save, see memjax.training.signals
        finally:
            signal.signal(signal.SIGTERM, previous)
    return status


def _shares(workers: int) -> list[set[int]]:
    """The cores of each process; empty sets where cores cannot be chosen, or are fewer than processes."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < workers:
        return [set() for _ in range(workers)]
    return [set(cores[i::workers]) for i in range(workers)]


def _begin(shares: Any) -> None:
    """In a new process: takes its cores, and leaves signals to the run, which saves."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_leave_with_the_parent, daemon=True).start()
    if cores := shares.get():
        os.sched_setaffinity(0, cores)  # before XLA counts them
    keep_compiled_programs()


def _leave_with_the_parent() -> None:
    """Ends this process once the one that started it is gone, its run saved: nobody else would."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    while _busy.is_set():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    os._exit(1)


def _train(name: str, config: TrainConfig, seconds: float) -> str:
    _busy.set()
    try:
        return measure(name, config, seconds, lambda line: print(f"{name}, seed {config.seed}: {line}", flush=True))[1]
    finally:
        _busy.clear()
