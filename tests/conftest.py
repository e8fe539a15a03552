"""One set-up for all tests: eight CPU devices, strict shapes, a compilation cache, and randomness from fixtures.

The marker `slow` leaves a test out of the second row of versions (.ci/run), which asks one thing: does the library work
with those versions. There run, of what compiles: one mixer of each kind (FAST in tests/mixers/test_contract.py), each
op at a few sizes, the model, the training loop, checkpoints, evaluation and decoding. `slow` are further sizes and
options, mixers of a kind that another stands for, benchmarks, what starts several processes, and all in `FIRST_ROW`.
Nothing is left out of the first row but what is marked `aot`: those tests compile for accelerators, need the extra of
that name (else they skip), and have a row of their own (make aot). Types and shapes of arguments are checked as the
programs are traced, in the first row; in the second that would say the same again.
"""

import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the suite's time is compiling. Unless XLA_FLAGS says otherwise, LLVM optimises nothing, and where jaxlib still
# can (before 0.11) it writes a kernel as plain LLVM code instead of through MLIR: 0.4 and 0.3 of the time. What XLA
# itself does to a program stays, and the second row of versions has the MLIR kernels.
# XLA_FLAGS=--xla_backend_optimization_level=3 tests what users run.
if "xla_backend_optimization_level" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()
    if version("jaxlib") < "0.11":  # XLA ends the process at a flag that it does not know
        os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"

import jax
import numpy as np
import pytest
from flax import nnx

ROOT = Path(__file__).resolve().parent.parent
FIRST_ROW = tuple(
    ROOT / "tests" / place
    for place in (
        *("tasks", "config", "evaluation/page", "evaluation/plots"),  # jax is not asked for anything
        *(f"data/test_{name}.py" for name in ("documents", "files", "ingest", "packing", "pieces", "tokenizers")),
        *("benchmarks", "evaluation/test_figures.py", "test_eval.py", "test_imports.py"),  # nor for what others do not
        *("mixers/test_hierarchical_memory.py", "mixers/test_product_key_memories.py", "mixers/test_ultra_mem.py"),
        *("layers/test_memory_usage.py", "ops/test_dplr.py", "ops/test_hippo.py"),  # S4D stands for S4 and HiPPO
        *("evaluation/test_decoding.py", "evaluation/test_extrapolation.py", "evaluation/test_report.py"),
        # kernels for TPUs are interpreted here, those for GPUs in the second row; both are compiled there (aot)
        *(f"ops/{op}/test_pallas_tpu.py" for op in ("gated_delta_rule", "gated_linear_attention", "linear_scan")),
        *(f"ops/value_bag/test_{kernels}_tpu.py" for kernels in ("pallas", "sums")),
    )
)

jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])  # jax may have been imported before this file
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    jax.config.update("jax_num_cpu_devices", 8)  # before the first use of a device: a mesh is tested on every machine
jax.config.update("jax_numpy_rank_promotion", "raise")


def share_compilation_cache() -> None:
    """Keeps compiled programs between runs, for this process and those that tests start.

    jax writes an entry in place, so each pytest-xdist worker has a directory of its own and none reads what another
    is still writing.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    base = Path(os.environ.get("MEMJAX_TEST_CACHE", ROOT / ".jax_cache"))
    settings = {
        "jax_compilation_cache_dir": str(base / worker),
        "jax_persistent_cache_min_compile_time_secs": 0.1,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    for name, value in settings.items():
        os.environ[name.upper()] = str(value)
        jax.config.update(name, value)


share_compilation_cache()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(item.path.is_relative_to(place) for place in FIRST_ROW):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def rng() -> np.random.Generator:
    """numpy randomness, the same in every run."""
    return np.random.default_rng(0)


@pytest.fixture
def getkey() -> Callable[[], jax.Array]:
    """A function that hands out a fresh JAX key at each call, the same keys in every run."""
    keys = iter(range(1_000_000))
    return lambda: jax.random.key(next(keys))


@pytest.fixture
def rngs() -> nnx.Rngs:
    """Randomness for parameters, the same in every run."""
    return nnx.Rngs(0)
