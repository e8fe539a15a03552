"""Which seconds count, and which peaks are known."""

import pytest

from memjax.training import throughput
from memjax.training.throughput import Throughput, peak_flops


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: now[0])
    return now


def test_pauses_do_not_count(clock):
    meter = Throughput()
    clock[0] += 2
    with meter.paused():
        clock[0] += 50
    clock[0] += 2
    meter.count(400, 1.0)
    assert meter.report() == {"tokens_per_second": 100.0, "seconds": 4.0}
    clock[0] += 1
    meter.count(30, 1.0)
    assert meter.report() == {"tokens_per_second": 30.0, "seconds": 5.0}


def test_mfu_where_the_peak_is_known(clock, monkeypatch):
    monkeypatch.setattr(throughput, "peak_flops", lambda kind: 1e3)
    monkeypatch.setattr(throughput.jax, "devices", lambda: [type("Device", (), {"device_kind": "x"})()] * 2)
    meter = Throughput()
    clock[0] += 1
    meter.count(10, 60.0)
    assert meter.report()["mfu"] == pytest.approx(600 / 2e3)


PEAKS = {
    "TPU v4": 275,
    "TPU v5 lite": 197,
    "TPU v5": 459,
    "TPU v6 lite": 918,
    "NVIDIA H100 80GB HBM3": 989.4,
    "NVIDIA H200": 989.4,
    "NVIDIA A100-SXM4-80GB": 312,
}


@pytest.mark.parametrize(("kind", "tera"), PEAKS.items())
def test_peaks(kind, tera):
    assert peak_flops(kind) == tera * 1e12


def test_a_cpu_has_no_peak():
    assert peak_flops("cpu") is None
