"""Compiles the training step of a config for a slice of TPUs or a host of GPUs, on a machine that has neither.

    python tpu/aot_compile.py CONFIG.py --topology v5e-16 [--mesh.fsdp 16 --batch-size 64 ...]

Prints what each device would hold, whether it fits, how often the program calls a Pallas kernel and which collectives
it has; what a chip would refuse is refused here. All flags of train.py work; a config that names no mesh gets `fsdp`
over all devices. Needs the extra `aot` (GPUs: on Python 3.12 or newer). Nothing is run and no data is read, except that
rows of benchmark tasks are drawn for their shapes.
"""

import argparse
import collections
import dataclasses
import math
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
# never look for a chip; libtpu asks a metadata server for these, and only one process may load it unless told so
for _name, _value in {
    "JAX_PLATFORMS": "cpu",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
}.items():
    os.environ.setdefault(_name, _value)

# Sides of the slices by their number of chips; a v5p is counted in cores, two a chip.
FLAT = {4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
CUBES = {8: "2x2x1", 16: "2x2x2", 32: "2x2x4", 64: "2x4x4", 128: "4x4x4", 256: "4x4x8"}
SLICES = {"v5e": ("v5e", FLAT), "v6e": ("v6e", FLAT), "v5p": ("v5", CUBES)}
GPUS = ("h200",)
# Memory of a device in bytes, from the makers' pages (cloud.google.com/tpu/docs, nvidia.com/en-us/data-center/h200)
MEMORY = {"v5e": 16 * 2**30, "v6e": 32 * 2**30, "v5p": 95 * 2**30, "h200": 141 * 10**9}
COLLECTIVES = r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        usage="tpu/aot_compile.py CONFIG.py --topology NAME [--flag value ...]",
        description=(__doc__ or "").split("\n")[0],
    )
    parser.add_argument("--topology", default="v5e-16", help="v5e-16, v6e-8, v5p-32, h200x8, ... (default v5e-16)")
    asked, rest = parser.parse_known_args(arguments)
    from memjax import config as configs

    try:
        config = configs.parse(rest)
        if config.mesh == configs.MeshConfig():
            config = dataclasses.replace(config, mesh=configs.MeshConfig(fsdp=-1))
        configs.validate(config)
        report(asked.topology, config)
    except configs.ConfigError as error:
        return configs.fail(error, 2)
    except Exception as error:  # the compiler's refusals have no class of their own
        return configs.fail(error, 1)
    return 0


def devices_of(name: str) -> list[Any]:
    """The devices of a topology by its name. ConfigError: there is none; ImportError: no compiler."""
    from jax.experimental import topologies

    from memjax.config import ConfigError

    tpu, gpu = re.fullmatch(r"(v\w+)-(\d+)", name), re.fullmatch(r"(\w+)x(\d+)", name)
    if tpu and tpu[1] in SLICES and int(tpu[2]) in SLICES[tpu[1]][1]:
        prefix, sides = SLICES[tpu[1]]
        _need("libtpu")
        return topologies.get_topology_desc(platform="tpu", topology_name=f"{prefix}:{sides[int(tpu[2])]}").devices
    if gpu and gpu[1] in GPUS and int(gpu[2]) > 0:
        _need("jax_cuda13_plugin")
        target = (ROOT / "tests" / "targets" / f"{gpu[1]}.txtpb").read_text(encoding="utf-8")
        return topologies.get_topology_desc(platform="cuda", target_config=target, topology=f"1x1x{gpu[2]}").devices
    known = [f"{chip}-{'|'.join(map(str, sides))}" for chip, (_, sides) in SLICES.items()]
    raise ConfigError(
        f"--topology: none is called {name!r}; there are {', '.join([*known, *(f'{g}xN' for g in GPUS)])}"
    )


def _need(module: str) -> None:
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise ImportError(f"{module} is not installed: make install EXTRAS=aot (GPUs: with Python 3.12 or newer)")


def batch_of(config, mesh) -> dict[str, Any]:
    """Shapes of a batch [A, B, T] as the loop places it: text from its length, tasks from rows that are drawn."""
    import jax
    import numpy as np

    from memjax import data
    from memjax.sharding import batch_sharding
    from memjax.training.feed import keep_scored

    lead = (config.accumulate, config.batch_size // config.accumulate)
    if isinstance(config.data, data.TextData | data.TfdsData):
        row = np.broadcast_to(np.int32(0), (config.batch_size, config.data.length))
        rows = dict.fromkeys(("tokens", "targets", "segment_ids", "bytes"), row)
    else:
        rows = dict(next(iter(data.train_loader(config.data, batch_size=config.batch_size, seed=config.seed))))
    rows = {name: x.reshape(*lead, *x.shape[1:]) for name, x in rows.items()}
    bounds = data.scored(config.data)
    if bounds is not None:
        rows.pop("segment_ids")
        rows = keep_scored(rows, bounds[rows["tokens"].shape[-1]])
    sharding = batch_sharding(mesh, axis=1)
    return {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding) for name, x in rows.items()}


def compile_step(config, devices: list[Any]) -> tuple[Any, int]:
    """(the compiled step of `config`, devices in its mesh)."""
    import jax

    from memjax.sharding import make_mesh
    from memjax.training.setup import prepare

    axes = dataclasses.asdict(config.mesh)
    mesh = make_mesh(**axes, devices=devices)
    with jax.set_mesh(mesh):
        setup = prepare(config, mesh)
        lowered = setup.step.lower(setup.abstract, batch_of(config, mesh))
        # tuning needs a device
        options = None if devices[0].platform == "tpu" else {"xla_gpu_autotune_level": 0}
        return lowered.compile(options), math.prod(mesh.shape.values())


def report(name: str, config) -> None:
    """Compiles and prints."""
    devices = devices_of(name)
    started = time.perf_counter()
    compiled, used = compile_step(config, devices)
    seconds = time.perf_counter() - started
    plan, text = compiled.memory_analysis(), compiled.as_text()
    sizes = {
        "state and batch": plan.argument_size_in_bytes,
        "results": plan.output_size_in_bytes,
        "of these in the state's place": -plan.alias_size_in_bytes,
        "temporaries": plan.temp_size_in_bytes,
    }
    total, room = sum(sizes.values()), MEMORY[re.split(r"[-x]", name)[0]]
    print(f"{name}: {used} of {len(devices)} x {devices[0].device_kind}, compiled in {seconds:.1f} s")
    for label, size in {**sizes, "together": total}.items():
        print(f"  {label:30} {size / 2**20:12,.1f} MiB a device")
    print(f"  {total / room:.1%} of the {room / 2**30:,.0f} GiB that a device has")
    kernels = sum(text.count(f'custom_call_target="{target}') for target in ("tpu_custom_call", "mosaic_gpu"))
    counts = collections.Counter(re.findall(COLLECTIVES, text))
    print(f"  Pallas kernels called in the text: {kernels}; collectives: {dict(counts) or 'none'}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
