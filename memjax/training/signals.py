"""SIGTERM, Ctrl-C and a time limit as requests that the loop honours at its next step boundary."""

import logging
import signal
import threading
import time
from typing import Literal

import jax
from jax.experimental import multihost_utils

Status = Literal["stopped", "interrupted", "out of time"]


class StopRequests:
    """Context in which SIGTERM asks for "stopped" and the first SIGINT for "interrupted".

    A second SIGINT raises KeyboardInterrupt at once. Several processes agree on the step through JAX's preemption
    service, which watches SIGTERM itself; Ctrl-C is left alone there. Outside the main thread, where Python allows no
    handlers, nothing is caught. After `seconds` (None: never) it is "out of time", in a single process only.
    """

    def __init__(self, seconds: float | None = None) -> None:
        if seconds is not None and jax.process_count() > 1:
            raise NotImplementedError("a time limit for several processes: their clocks differ, send SIGTERM instead")
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._asked: Status | None = None
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self):
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            for number, handler in ((signal.SIGTERM, self._terminate), (signal.SIGINT, self._interrupt)):
                self._previous[number] = signal.signal(number, handler)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def at(self, step: int) -> Status | None:
        """What was asked for by the boundary after `step`; the same answer in every process."""
        if jax.process_count() > 1:
            return "stopped" if multihost_utils.reached_preemption_sync_point(step) else None
        late = self._deadline is not None and time.monotonic() >= self._deadline
        return self._asked or ("out of time" if late else None)

    def _terminate(self, *_) -> None:
        self._asked = self._asked or "stopped"

    def _interrupt(self, *_) -> None:
        if self._asked == "interrupted":
            logging.getLogger("absl").disabled = True  # Orbax would report the end of its waiting at great length
            raise KeyboardInterrupt
        self._asked = "interrupted"
