"""`tpu/bench_kernels.py` at tiny shapes on a CPU: what it compares with, writes, and does with contenders that fail."""

import importlib.util
import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import timing
from benchmarks.kernels import contender, measure, record
from benchmarks.kernels.ceilings import Ceilings
from benchmarks.kernels.problem import Problem
from benchmarks.kernels.scans import LinearScan
from benchmarks.kernels.shapes import FULL, OPS, SMALL
from benchmarks.kernels.tables import TableGradient, ValueBag

ROOT = Path(__file__).resolve().parents[2]
CEILINGS = Ceilings(bytes=1e9, flops=1e9)


class Product(Problem):
    """o = x w: a problem that costs nothing to compile."""

    op = "product"
    wrt = ("x",)
    label = "of eight"
    dtype = "float32"

    def draw(self, key):
        return dict(zip(("x", "w", "cotangent"), jax.random.normal(key, (3, 8)), strict=True))

    def forward(self, arrays, implementation):
        if implementation == "pallas_gpu":
            raise NotImplementedError("heads of 60\nare not served")
        return {"o": arrays["x"] * arrays["w"]}

    def sample(self, results, arrays):
        return {name: np.asarray(x) for name, x in results.items()}

    def truth(self, arrays):
        x, w, cotangent = (np.asarray(arrays[name], np.float64) for name in ("x", "w", "cotangent"))
        return {"o": x * w, "d x": cotangent * w}

    def bytes(self, gradient):
        return 64

    def flops(self, gradient):
        return 8.0


@pytest.fixture(scope="module")
def command():
    spec = importlib.util.spec_from_file_location("bench_kernels", ROOT / "tpu" / "bench_kernels.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def rows_of(contenders, problem, rounds=1):
    """{(mode, contender): row}"""
    groups = measure.measure(problem, contenders, CEILINGS, rounds, jax.random.key(3))
    return {(row.mode, row.contender): row for rows in groups for row in rows}


def run(command, tmp_path, *arguments):
    path = tmp_path / "new" / "kernels.json"
    common = ("--small", "--rounds", "1", "--implementations", "xla", "--output", str(path))
    assert command([*common, *arguments]) == 0
    return json.loads(path.read_text())


def check(written):
    assert {"date", "chip", "driver", "versions", "ceilings", "seed"} <= set(written)
    assert all(math.isfinite(x) and x > 0 for x in written["ceilings"].values())
    for row in written["rows"]:
        assert row["reason"] == ""
        numbers = [row[name] for name in ("seconds", "bytes_per_second", "flops_per_second", "of_copy", "of_matmul")]
        assert all(math.isfinite(x) and x > 0 for x in numbers), row
        assert all(0 <= x < 1e-2 for x in row["errors"].values())
    forward, backward = written["rows"][:2]
    assert (forward["mode"], backward["mode"]) == ("forward", "forward + backward")
    assert "o" in forward["errors"] and not any(name.startswith("d ") for name in forward["errors"])
    assert any(name.startswith("d ") for name in backward["errors"])


def test_it_writes_numbers_with_their_circumstances(command, tmp_path, capsys):
    written = run(command, tmp_path, "--only", "row_dots", "--no-peers", "--seed", "7")
    check(written)
    assert written["seed"] == 7
    assert [row["contender"] for row in written["rows"]] == ["xla", "xla"]
    assert "nothing" in capsys.readouterr().out.split("not to be picked")[1]


@pytest.mark.slow
def test_every_op_is_compared_with_float64_and_attention_stands_beside(command, tmp_path, capsys):
    written = run(command, tmp_path)
    attention = [row for row in written["rows"] if row["contender"] == "attention"]
    assert [row["op"] for row in attention] == ["gated_delta_rule"] * 2 + ["gated_linear_attention"] * 2
    assert all(row["seconds"] > 0 and row["errors"] == {} for row in attention)
    assert "x attention" in capsys.readouterr().out
    written["rows"] = [row for row in written["rows"] if row["contender"] == "xla"]
    check(written)
    assert {row["op"] for row in written["rows"]} == {problem.op for problem in SMALL} == set(OPS)


def wrong(problem, arrays, gradient):
    call = problem.gradient if gradient else problem.forward
    return contender.of_jax(lambda x: {name: 1.01 * y for name, y in call(x, "xla").items()}, arrays)


def breaks_later(problem, arrays, gradient):
    ready = contender.implementation("xla")(problem, arrays, gradient)
    blocks = []

    def block(calls):
        blocks.append(calls)
        if len(blocks) > 3:
            raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return ready.block(calls)

    return ready._replace(block=block)


def test_what_fails_is_a_row_with_the_reason_and_the_others_are_timed():
    ours = {name: contender.implementation(name) for name in ("pallas_gpu", "xla")}
    rows = rows_of({"wrong": wrong, "breaks": breaks_later, **ours}, Product(), rounds=4)
    assert len(rows) == 8
    for mode in ("forward", "forward + backward"):
        assert rows[mode, "pallas_gpu"].reason == "NotImplementedError: heads of 60 are not served"
        assert "o is off by 0.01, allowed 1e-05" in rows[mode, "wrong"].reason
        assert rows[mode, "breaks"].reason == "RuntimeError: RESOURCE_EXHAUSTED: out of memory"
        assert rows[mode, "xla"].seconds > 0
        assert all(rows[mode, name].seconds is None for name in ("pallas_gpu", "wrong", "breaks"))
    printed = record.table([rows["forward", name] for name in ("pallas_gpu", "xla")])
    assert "  pallas_gpu: NotImplementedError: heads of 60 are not served" in printed.splitlines()


def test_a_peer_that_is_off_is_timed_with_a_remark():
    peer = lambda *x: wrong(*x)._replace(ours=False)
    row = rows_of({"peer": peer}, Product())["forward", "peer"]
    assert row.seconds > 0 and row.remark == "o is off by 0.01, allowed 1e-05"
    assert record.table([row]).endswith("  peer: o is off by 0.01, allowed 1e-05")


def test_inputs_that_do_not_fit_are_a_reason():
    class TooLarge(Product):
        def draw(self, key):
            raise RuntimeError("RESOURCE_EXHAUSTED")

    rows = rows_of({"xla": contender.implementation("xla")}, TooLarge())
    assert rows["forward", "xla"].reason == "no inputs: RuntimeError: RESOURCE_EXHAUSTED"
    assert record.table(list(rows.values())).endswith("xla: no inputs: RuntimeError: RESOURCE_EXHAUSTED")


def test_a_contender_that_has_no_such_op_gets_no_row():
    assert rows_of({"attention": contender.attention}, Product()) == {}


def test_a_kernel_slower_than_xla_is_not_to_be_picked():
    row = lambda shape, name, seconds: measure.Row("linear_scan", shape, "forward", name, seconds)
    groups = [
        [row("short", "pallas_gpu", 3e-3), row("short", "xla", 2e-3)],
        [row("long", "pallas_gpu", 1e-3), row("long", "xla", 2e-3)],
        [row("refused", "pallas_gpu", None), row("refused", "xla", 2e-3)],
    ]
    assert record.not_to_be_picked(groups) == ["linear_scan short, forward: pallas_gpu takes 1.50 times xla's time"]
    assert record.table(groups[1]).splitlines() == [
        "linear_scan long, forward",
        "  contender      ms  x xla  of copy  of matmul  error",
        "  pallas_gpu  1.000   2.00",
        "  xla         2.000",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"), [(["--only", "delta"], "no op is called 'delta'"), (["--rounds", "0"], "--rounds")]
)
def test_wrong_usage_is_one_line(command, capsys, arguments, said):
    with pytest.raises(SystemExit) as stop:
        command(arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith("error: ") and error.count("\n") == 1
    assert said in error


def test_floors_are_counted_by_hand():
    scan = LinearScan(2, 16, 8)
    size = 4 * 2 * 16 * 8
    assert scan.bytes(gradient=False) == 3 * size  # decay and x in, h out
    assert scan.bytes(gradient=True) == 8 * size  # decay, h and the cotangent in; two gradients out
    bag = ValueBag(rows=100, width=32, tokens=10, reads=4)
    assert bag.bytes(gradient=False) == 40 * 64 + 40 * 8 + 10 * 64
    assert bag.flops(gradient=False) == 2 * 10 * 4 * 32


def test_the_gradient_of_a_table_is_measured_by_itself():
    """And a kernel that cannot sum it is no XLA under another name."""
    contenders = {name: contender.implementation(name) for name in ("pallas_tpu", "xla")}
    rows = rows_of(contenders, TableGradient(64, 16, 32, 4))
    assert set(rows) == {("backward", name) for name in contenders}
    assert set(rows["backward", "xla"].errors) == {"d values"} and rows["backward", "xla"].seconds > 0
    assert "V = 16 is no multiple of 128" in rows["backward", "pallas_tpu"].reason
    assert TableGradient(100, 32, 10, 4).bytes(gradient=False) == 40 * 8 + 10 * 64 + 100 * 64


def test_the_shapes_are_those_that_were_promised():
    shapes = [(p.batch, p.time, p.heads, p.size) for p in FULL if p.op == "gated_delta_rule" and p.gate == "scalar"]
    assert (1, 8192, 96, 128) in shapes and (2, 16384, 16, 128) in shapes and len(shapes) == 6


def test_a_run_may_measure_itself():
    clock = iter(range(100)).__next__
    assert timing.alternate({"device": lambda: 0.25, "host": lambda: None}, 1, clock=clock) == {
        "device": [0.25],
        "host": [1],
    }


def test_torch_gets_the_same_arrays():
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch (extra bench) is not installed; its twin is test_it_writes_numbers_with_their_circumstances")
    from benchmarks.kernels import torch_peers

    rows = rows_of({"torch": torch_peers.embedding_bag}, ValueBag(64, 16, 32, 4))
    assert all(row.seconds > 0 for row in rows.values())
    assert set(rows["forward + backward", "torch"].errors) == {"o", "d values", "d weights"}
