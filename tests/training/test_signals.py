"""Signals become requests; the second Ctrl-C does not wait."""

import logging
import os
import signal
import threading

import pytest

from memjax.training.signals import StopRequests


def test_nothing_asked():
    with StopRequests() as requests:
        assert requests.at(1) is None


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, "stopped"), (signal.SIGINT, "interrupted")])
def test_the_first_signal_is_a_request(number, status):
    before = signal.getsignal(number)
    with StopRequests() as requests:
        os.kill(os.getpid(), number)
        assert requests.at(1) == status
    assert signal.getsignal(number) is before


def test_a_second_interrupt_raises(monkeypatch):
    monkeypatch.setattr(logging.getLogger("absl"), "disabled", False)  # to be restored afterwards
    with StopRequests(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_other_threads_catch_nothing():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def run():
        with StopRequests():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]


def test_time_runs_out():
    with StopRequests(seconds=100.0) as requests:
        assert requests.at(1) is None
    with StopRequests(seconds=0.0) as requests:
        assert requests.at(1) == "out of time"
        os.kill(os.getpid(), signal.SIGTERM)
        assert requests.at(1) == "stopped"
