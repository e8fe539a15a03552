"""Command line of the benchmarks; see `python -m benchmarks --help`."""

import argparse
import os
import sys
from pathlib import Path

from benchmarks import timing

NAMES = ("op", "linear_scan", "mamba2", "mixture", "value_bag", "memory_step", "train_step", "linearity", "memory")
PEER = "torch"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed and memory next to peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which to run, of {', '.join(NAMES)}; none: all")
    parser.add_argument("--rounds", type=int, default=9, help="timed calls of each side (default 9)")
    parser.add_argument("--json", type=Path, metavar="DIR", help="also write DIR/<name>.json")
    asked = parser.parse_args(arguments)
    unknown = [name for name in asked.names if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark is called {unknown[0]!r}; there are {', '.join(NAMES)}")
    if asked.rounds < 1:
        parser.error(f"--rounds must be at least 1, not {asked.rounds}")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    threads = timing.limit_threads()
    for name in asked.names or NAMES:
        result = run(name, asked.rounds, threads)
        print(result, end="\n\n", flush=True)
        if asked.json:
            print(f"written to {result.write(asked.json)}\n")
    return 0


def run(name: str, rounds: int, threads: int):
    """The result of one benchmark. JAX is imported here, after the process was held to its cores."""
    from benchmarks import (
        linear_scan,
        linearity,
        mamba2,
        memory,
        memory_step,
        mixture,
        op,
        peers,
        train_step,
        value_bag,
    )

    if name == "op":
        return op.run(peers.gated_delta_rule(threads), PEER, rounds)
    if name == "linear_scan":
        return linear_scan.run(rounds)
    if name == "mamba2":
        return mamba2.run(peers.mamba2(threads), PEER, rounds)
    if name == "mixture":
        return mixture.run(rounds)
    if name == "value_bag":
        return value_bag.run(peers.embedding_bag(threads), PEER, rounds)
    if name == "memory_step":
        return memory_step.run(rounds)
    if name == "train_step":
        return train_step.run(lambda *data: peers.olmo_hybrid(threads, *data), PEER, rounds)
    return linearity.run(rounds) if name == "linearity" else memory.run()


if __name__ == "__main__":
    from benchmarks.peers import PeerMissingError

    try:
        sys.exit(main())
    except (PeerMissingError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
