"""Joining a group of processes, when the environment says that there is one."""

import os

import jax


def join() -> bool:
    """Calls `jax.distributed.initialize` if the environment names a group of processes; returns whether it did.

    To be called before anything asks JAX for a device. A group is named by one of

    - JAX_COORDINATOR_ADDRESS (host:port), with JAX_NUM_PROCESSES and JAX_PROCESS_ID: any cluster, started by hand;
    - SLURM_STEP_NUM_TASKS > 1 (`srun`), OMPI_COMM_WORLD_SIZE > 1 (`mpirun`): found by JAX itself;
    - TPU_WORKER_HOSTNAMES with several hosts, or MEGASCALE_COORDINATOR_ADDRESS: TPU slices under GKE or xpk;
    - MEMJAX_DISTRIBUTED=1: whatever JAX detects, for instance TPU VMs, whose metadata server knows the hosts.
    """
    environment = os.environ
    if environment.get("JAX_COORDINATOR_ADDRESS") and "JAX_NUM_PROCESSES" in environment:
        jax.distributed.initialize(
            num_processes=int(environment["JAX_NUM_PROCESSES"]), process_id=int(environment["JAX_PROCESS_ID"])
        )
        return True
    several = (
        "JAX_COORDINATOR_ADDRESS" in environment
        or environment.get("MEMJAX_DISTRIBUTED") == "1"
        or any(int(environment.get(name) or 1) > 1 for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"))
        or "," in environment.get("TPU_WORKER_HOSTNAMES", "")
        or "MEGASCALE_COORDINATOR_ADDRESS" in environment
    )
    if several:
        jax.distributed.initialize()
    return several
