"""When a group of processes is joined. The joining itself is replaced; tests/training/test_two_processes.py does it."""

import jax
import pytest

from memjax.training import distributed

NAMES = (
    "JAX_COORDINATOR_ADDRESS JAX_NUM_PROCESSES JAX_PROCESS_ID MEMJAX_DISTRIBUTED SLURM_STEP_NUM_TASKS "
    "OMPI_COMM_WORLD_SIZE TPU_WORKER_HOSTNAMES MEGASCALE_COORDINATOR_ADDRESS"
)


@pytest.fixture
def joined(monkeypatch):
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **options: calls.append(options))
    for name in NAMES.split():
        monkeypatch.delenv(name, raising=False)
    return calls


@pytest.mark.parametrize("environment", [{}, {"SLURM_STEP_NUM_TASKS": "1"}, {"TPU_WORKER_HOSTNAMES": "localhost"}])
def test_alone(joined, monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert not distributed.join() and joined == []


@pytest.mark.parametrize(
    "environment", [{"SLURM_STEP_NUM_TASKS": "2"}, {"TPU_WORKER_HOSTNAMES": "a,b"}, {"MEMJAX_DISTRIBUTED": "1"}]
)
def test_several(joined, monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert distributed.join() and joined == [{}]


def test_by_hand(joined, monkeypatch):
    for name, value in (("JAX_COORDINATOR_ADDRESS", "h:1"), ("JAX_NUM_PROCESSES", "4"), ("JAX_PROCESS_ID", "2")):
        monkeypatch.setenv(name, value)
    assert distributed.join() and joined == [{"num_processes": 4, "process_id": 2}]
