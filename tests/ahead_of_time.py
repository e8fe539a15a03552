"""Programs compiled for accelerators on a host that has none: what the compiler makes of a kernel, and what it refuses.

The compilers are the extra `aot` (libtpu, the CUDA plug-in with pjrt and nvcc). A test that needs them has the marker
`aot`; without them it skips and says what is missing. `tests/targets/h200.txtpb` describes the card, from openxla/xla,
xla/backends/gpu/target_config/specs (Apache-2.0).
"""

import functools
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import pytest
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

TPUS = {"v5e": "v5e:2x2", "v5p": "v5:2x2x1", "v6e": "v6e:2x2"}
CHIPS = (*TPUS, "h200")
# libtpu asks a metadata server for these, and prints what it did not find; and only one process at a time may load it,
# unless told that there is no chip to share
_QUIET = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
}


@functools.cache
def topology(chip: str, count: int = 1) -> Any:
    """The devices of `chip`, one of CHIPS: four TPU chips, or `count` GPUs. Skips where its compiler is missing."""
    if chip in TPUS:
        if find_spec("libtpu") is None:
            pytest.skip("libtpu is not installed (extra aot)")
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        return topologies.get_topology_desc(platform="tpu", topology_name=TPUS[chip])
    if find_spec("jax_cuda13_plugin") is None:
        pytest.skip("the CUDA plug-in of jax is not installed (extra aot, Python 3.12)")
    target = (Path(__file__).parent / "targets" / f"{chip}.txtpb").read_text()
    return topologies.get_topology_desc(platform="cuda", target_config=target, topology=f"1x1x{count}")


def compile_for(chip: str, function: Callable, *shapes: Any) -> Any:
    """`function` compiled for one device of `chip`; shapes: pytrees of `jax.ShapeDtypeStruct`."""
    sharding = SingleDeviceSharding(topology(chip).devices[0])
    place = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
    return finish(chip, jax.jit(function).lower(*jax.tree.map(place, shapes)))


def finish(chip: str, lowered: Any) -> Any:
    """What was lowered for devices of `chip`, compiled."""
    # tuning needs a device, and so does the choice of a Triton product
    tuning = {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}
    return lowered.compile(None if chip in TPUS else tuning)


def kernels_in(compiled: Any) -> int:
    """How many Pallas kernels the program calls."""
    text = compiled.as_text()
    return text.count('custom_call_target="tpu_custom_call"') + text.count('custom_call_target="mosaic_gpu')
