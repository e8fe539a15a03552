"""Two processes with two devices each, joined over loopback, train as one process with four devices does."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from memjax.training import fit
from memjax.training.metrics import read_rows
from memjax.training.reading import steps_in
from tests.training.conftest import change, tiny_config

ROOT = Path(__file__).resolve().parent.parent.parent
STEPS, ASKED = 12, 2
WORKER = """
import os, signal, sys
import jax
jax.config.update("jax_num_cpu_devices", 2)
from memjax.training import distributed, fit
from tests.training.test_two_processes import ASKED, config
assert distributed.join()

def ask(model, step):
    if step == ASKED and jax.process_index() == 1:  # one of the two is asked, and both have to stop
        os.kill(os.getpid(), signal.SIGTERM)
    return {}

result = fit(config(sys.argv[1]), evaluators=[ask])
print("ended", result.status, result.step, flush=True)
jax.distributed.shutdown()
"""


def config(run_dir):
    return change(tiny_config(run_dir), steps=STEPS, checkpoint_every=100, evaluate_every=ASKED, **{"mesh.fsdp": 4})


def start(run_dir):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    common = {**os.environ, "JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "PYTHONPATH": str(ROOT)}
    return [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, run_dir],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**common, "JAX_PROCESS_ID": str(rank)},
        )
        for rank in (0, 1)
    ]


def ends(processes):
    """The last line that each process printed."""
    outputs = [process.communicate(timeout=100) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    return [out.splitlines()[-1] for out, _ in outputs]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_stop_together_and_end_like_one(tmp_path):
    first, second = ends(start(tmp_path / "two"))
    stopped = int(first.split()[-1])
    assert first == second == f"ended stopped {stopped}" and ASKED <= stopped < STEPS
    assert steps_in(tmp_path / "two" / "checkpoints") == [stopped]
    assert ends(start(tmp_path / "two")) == [f"ended done {STEPS}"] * 2
    fit(config(tmp_path / "one"), say=str)
    losses = ([row["loss"] for row in read_rows(tmp_path / name) if "loss" in row] for name in ("two", "one"))
    np.testing.assert_allclose(*losses, rtol=1e-4)
