"""Times the kernels on the accelerator that is there, beside XLA, attention and flash-linear-attention.

    python tpu/bench_kernels.py [--only OP ...] [--rounds N] [--output FILE]

Every contender first shows that it computes the right thing, on fresh random numbers against float64; one that refuses,
is wrong or runs out of memory is a row with the reason. Then all run in turns, blocks of calls between two moments at
which the device is idle, and medians are compared. Bytes and FLOPs are those of the op's definition; the ceilings are a
large copy and a large bfloat16 product, measured in the same run. The file is written anew after each problem.
tpu/README.md says what to install.
"""

import argparse
import os
import secrets
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
# torch needs room beside jax; set before jax is imported
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    asked = _parse(arguments)
    import jax

    from benchmarks.kernels import ceilings, measure, record, shapes

    rounds, seed = asked.rounds, secrets.randbits(31) if asked.seed is None else asked.seed
    output = asked.output or record.default_path(ROOT)
    contenders = _contenders(asked.implementations or _implementations(jax.default_backend()), asked.peers)
    limits = ceilings.measure(rounds, **({"megabytes": 4, "side": 128} if asked.small else {}))
    rates = f"copy {limits.bytes / 1e9:,.1f} GB/s, bfloat16 product {limits.flops / 1e12:,.2f} TFLOP/s"
    print(f"{jax.devices()[0].device_kind}: {rates}")
    print(f"medians of {rounds} rounds, seed {seed}\n")
    groups: list[list[measure.Row]] = []
    for number, problem in enumerate(shapes.SMALL if asked.small else shapes.FULL):
        if asked.only and problem.op not in asked.only:
            continue
        key = jax.random.fold_in(jax.random.key(seed), number)
        for rows in measure.measure(problem, contenders, limits, rounds, key):
            groups.append(rows)
            print(record.table(rows), end="\n\n", flush=True)
        record.write(output, groups, limits, rounds, seed)
    slower = record.not_to_be_picked(groups)
    print("not to be picked, slower than xla:", *(slower or ["nothing"]), sep="\n  ")
    print(f"written to {output}")
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Speed of the kernels on this accelerator.")
    parser.add_argument("--only", nargs="+", metavar="OP", default=[], help="ops to run; none: all")
    parser.add_argument("--implementations", nargs="+", metavar="NAME", help="of the ops; default: kernel and xla")
    parser.add_argument(
        "--peers", action=argparse.BooleanOptionalAction, default=True, help="attention, fla, torch too"
    )
    parser.add_argument("--rounds", type=int, default=9, help="timed blocks of each contender (default 9)")
    parser.add_argument("--seed", type=int, help="of the inputs; default: a fresh one, which the file names")
    parser.add_argument("--small", action="store_true", help="tiny shapes, to try the program itself")
    parser.add_argument("--output", type=Path, help="default benchmarks/results/kernels-<chip>.json")
    asked = parser.parse_args(arguments)
    from benchmarks.kernels.shapes import OPS

    unknown = [name for name in asked.only if name not in OPS]
    if unknown:
        _refuse(f"no op is called {unknown[0]!r}; there are {', '.join(OPS)}")
    if asked.rounds < 1:
        _refuse(f"--rounds must be at least 1, not {asked.rounds}")
    return asked


def _refuse(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _implementations(platform: str) -> list[str]:
    kernel = {"tpu": ["pallas_tpu"], "gpu": ["pallas_gpu"]}.get(platform, [])  # on a CPU they would be interpreted
    return [*kernel, "xla"]


def _contenders(implementations: list[str], peers: bool) -> dict:
    """By name. Peers that are not installed are left out, and a line says so."""
    from benchmarks.kernels import contender, torch_peers

    chosen = {name: contender.implementation(name) for name in implementations}
    if not peers:
        return chosen
    chosen[contender.ATTENTION] = contender.attention
    for name, modules, prepare in (
        ("fla", ("torch", "fla"), torch_peers.fla),
        ("torch", ("torch",), torch_peers.embedding_bag),
    ):
        missing = [module for module in modules if find_spec(module) is None]
        if missing:
            print(f"{name}: left out, {missing[0]} is not installed")
        else:
            chosen[name] = prepare
    return chosen


if __name__ == "__main__":
    sys.exit(main())
