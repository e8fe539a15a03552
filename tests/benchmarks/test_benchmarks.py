"""The benchmarks at tiny shapes; the place of torch is taken by the op's own reference, so that no peer is needed."""

import importlib.util
import itertools
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks import (
    linear_scan,
    linearity,
    mamba2,
    memory,
    memory_step,
    mixture,
    op,
    side_by_side,
    timing,
    train_step,
    value_bag,
)
from benchmarks.report import Result

TINY = op.Shape(batch=2, time=70, heads=2, size=16)
STEP = train_step.Shape(batch=2, time=32, width=16, heads=2, hidden=32, vocabulary=16, recurrent=1, learning_rate=1e-2)
ROOT = Path(__file__).resolve().parents[2]
reference = partial(op.build, implementation="reference")


def test_runs_are_taken_in_turns_after_a_warm_up():
    calls = []
    clock = itertools.count().__next__
    seconds = timing.alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3, clock=clock)
    assert calls == ["a", "b"] * 4
    assert seconds == {"a": [1, 1, 1], "b": [1, 1, 1]}


def test_speed_up_says_how_much_faster_ours_is():
    ratio = timing.speed_up({"ours": [1.0, 2.0, 4.0], "theirs": [4.0, 4.0, 4.0]}, "ours", "theirs")
    assert ratio == {"speed-up": 2.0, "lowest": 1.0, "highest": 4.0}


def test_no_rounds_are_refused():
    with pytest.raises(ValueError, match="rounds"):
        timing.alternate({}, 0)


def test_a_disturbed_measurement_says_so():
    seconds = timing.Seconds(a=[1.0])
    assert "DISTURBED" not in timing.note(1, seconds)
    seconds.disturbed = 0.4
    assert "other processes took 40%" in timing.note(1, seconds)


@pytest.mark.slow
def test_op_against_a_twin():
    result = op.run(reference, "twin", rounds=2, shape=TINY)
    assert [row["gated delta rule"] for row in result.rows] == ["forward", "forward + backward"]
    assert all(row["speed-up"] > 0 and row["twin ms"] > 0 for row in result.rows)


@pytest.mark.slow
def test_mamba2_against_itself():
    shape = mamba2.Shape(batch=1, time=20, width=16, head_dim=8, state_size=4)
    result = mamba2.run(mamba2.build, "twin", rounds=1, shape=shape)
    assert [row["Mamba2 layer"] for row in result.rows] == ["forward", "forward + backward"]
    assert all(row["speed-up"] > 0 for row in result.rows)
    assert {"value/kernel", "conv_read/bias", "A_log", "skip"} <= set(mamba2.parameters(shape))


@pytest.mark.slow
def test_value_bag_against_a_twin():
    twin = partial(value_bag.build, implementation="reference")
    result = value_bag.run(twin, "twin", rounds=1, shape=value_bag.Shape(rows=20, width=4, tokens=5, bags=(3,)))
    assert [row["value bag"] for row in result.rows] == ["J3 forward", "J3 forward + backward"]
    assert all(row["speed-up"] > 0 for row in result.rows)


@pytest.mark.slow
def test_sides_that_compute_different_things_are_refused():
    def wrong(arrays, cotangent, differentiate):
        run, results = reference(arrays, cotangent, differentiate)
        return run, lambda: [1.01 * x for x in results()]

    with pytest.raises(ValueError, match="differ in o"):
        op.run(wrong, "twin", rounds=1, shape=TINY)


def test_a_nan_is_no_agreement():
    with pytest.raises(ValueError, match="differ in q"):
        side_by_side.compare([np.array([np.nan])], [np.array([1.0])], ("q",))


@pytest.mark.slow
def test_train_step_against_itself():
    result = train_step.run(train_step.Training, "twin", rounds=1, shape=STEP)
    assert result.rows[0]["twin tokens/s"] > 0
    assert "parameters" in result.notes[1]


@pytest.mark.slow
def test_the_step_learns():
    training = train_step.Training(STEP, *train_step.batch_of(STEP))
    losses = [training.step() for _ in range(30)]
    assert losses[0] == pytest.approx(np.log(16), rel=0.3)  # nothing known yet about 16 tokens
    assert losses[-1] < losses[0] - 0.1


def test_the_hybrid_has_the_sizes_that_are_compared():
    blocks = train_step.config_of(train_step.Shape()).model.blocks
    assert [type(block.mixer).__name__ for block in blocks] == ["GatedDeltaNetConfig"] * 3 + ["AttentionConfig"]


@pytest.mark.slow
def test_linear_scan_reports_time_and_memory_of_both():
    row = linear_scan.run(2, linear_scan.Shape(batch=2, time=70, width=40)).rows[0]
    assert row["speed-up"] > 0 and row["associative ms"] > 0
    assert 0 < row["memjax temporaries"] < row["associative temporaries"]


@pytest.mark.slow
def test_mixture_reports_three_ratios_of_equal_gradients():
    result = mixture.run(1, mixture.Shape(time=40, width=8, heads=1, size=4))
    assert [row["layer"] for row in result.rows] == [mixture.FOUR, mixture.EIGHT, mixture.DENSE]
    assert all(row["ratio"] > 0 for row in result.rows)
    assert "agree" in result.notes[0]


@pytest.mark.slow
def test_linearity_reports_both_lengths():
    result = linearity.run(1, TINY, lengths=(32, 64))
    assert [row["tokens"] for row in result.rows] == ["32", "64"]
    assert "2 times the tokens take" in result.notes[0]


@pytest.mark.slow
def test_memory_counts_the_arguments_exactly():
    rows = {row["gradient"]: row["bytes"] for row in memory.run(TINY).rows}
    lead = TINY.batch * TINY.time * TINY.heads
    assert rows["arguments"] == 4 * lead * (4 * TINY.size + 2)  # q, k, v, cotangent; log_decay, beta
    assert rows["gradients"] >= 4 * lead * (3 * TINY.size + 2)
    assert rows["temporaries"] > 0


def test_a_result_is_a_table_and_a_file(tmp_path):
    result = Result("name", "a title", [{"what": "x", "ms": 1234.5, "bytes": 1 << 20}], ("  a note",))
    assert str(result).splitlines() == ["a title", "  what     ms      bytes", "  x     1,234  1,048,576", "  a note"]
    written = json.loads(result.write(tmp_path / "new").read_text())
    assert written["rows"] == [{"what": "x", "ms": 1234.5, "bytes": 1048576}]
    assert {"date", "chip", "cores", "versions"} <= set(written)
    assert "jax" in written["versions"]


def command(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    start = ["-c", code] if code else ["-m", "benchmarks"]
    return subprocess.run([sys.executable, *start, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_without_torch_one_line_names_the_command():
    hide = "import sys; sys.modules['torch'] = None; import runpy; runpy.run_module('benchmarks', run_name='__main__')"
    run = command("op", code=hide)
    assert run.returncode == 1
    assert run.stderr.startswith("error: ")
    assert run.stderr.count("\n") == 1
    assert "make bench" in run.stderr


def test_an_unknown_name_is_a_usage_error():
    run = command("speed")
    assert run.returncode == 2
    assert "'speed'" in run.stderr
    assert "train_step" in run.stderr


def test_peers_are_checked_when_they_are_there():
    """With the extra `bench` installed: the torch side computes what ours computes."""
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
        pytest.skip("torch and transformers (extra bench) are not installed; its twin is test_op_against_a_twin")
    from benchmarks import peers

    op.run(peers.gated_delta_rule(timing.THREADS), "torch", rounds=1, shape=TINY)


@pytest.mark.slow
def test_memory_step_grows_with_rows_read():
    sizes = (("adam", (8, 16)),)
    shape = memory_step.Shape(batch=2, time=16, width=16, heads=1, topk=4, subkeys=sizes)
    result = memory_step.run(1, shape)
    assert [(row["rows"], row["optimizer"]) for row in result.rows] == [(64, "adam"), (256, "adam")]
    for row in result.rows:
        assert 4 <= row["distinct rows"] <= 2 * 16 * 4
        assert row["us/row"] == pytest.approx(1e3 * row["ms"] / row["distinct rows"])
        assert row["dense hidden"] > 0
