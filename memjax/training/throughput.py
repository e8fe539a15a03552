"""Tokens per second of training proper, and the share of the hardware's peak that it uses."""

import contextlib
import time
from collections.abc import Iterator

import jax

# Dense bfloat16 FLOP/s of one JAX device, from the makers' datasheets; prefix of `device_kind`, first match wins.
# TPU: https://cloud.google.com/tpu/docs/v4, .../v5e, .../v5p, .../v6e (v4 and v5p present a chip as one device).
# GPU: NVIDIA H100, H200 (https://www.nvidia.com/en-us/data-center/h200/) and A100 datasheets, without sparsity.
PEAK_FLOPS: tuple[tuple[str, float], ...] = (
    ("TPU v6", 918e12),
    ("TPU v5p", 459e12),
    ("TPU v5 lite", 197e12),
    ("TPU v5e", 197e12),
    ("TPU v5", 459e12),
    ("TPU v4", 275e12),
    ("NVIDIA H200", 989.4e12),
    ("NVIDIA H100 PCIe", 756e12),
    ("NVIDIA H100 NVL", 835e12),
    ("NVIDIA H100", 989.4e12),
    ("NVIDIA A100", 312e12),
)


def peak_flops(device_kind: str) -> float | None:
    """Dense bfloat16 FLOP/s of a device, None where it is not known (a CPU)."""
    return next((peak for prefix, peak in PEAK_FLOPS if device_kind.startswith(prefix)), None)


class Throughput:
    """Counts tokens and FLOPs against the time that is neither compilation nor checkpoint nor evaluation."""

    def __init__(self) -> None:
        devices = jax.devices()
        peak = peak_flops(devices[0].device_kind)
        self._peak = None if peak is None else peak * len(devices)
        self.seconds = 0.0  # training time since this process started
        self._since = time.perf_counter()
        self._tokens = self._flops = self._reported = 0.0

    def count(self, tokens: int, flops_per_token: float) -> None:
        """Adds the tokens of a finished step; `flops_per_token` of forward and backward pass."""
        self._tokens += tokens
        self._flops += tokens * flops_per_token

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What runs inside does not count as training time."""
        self._tick()
        try:
            yield
        finally:
            self._since = time.perf_counter()

    def report(self) -> dict[str, float]:
        """tokens_per_second and, where the peak is known, mfu since the last report; seconds of training so far."""
        self._tick()
        elapsed, self._reported = self.seconds - self._reported, self.seconds
        rates = {"tokens_per_second": self._tokens / elapsed if elapsed > 0 else 0.0, "seconds": self.seconds}
        if self._peak is not None and elapsed > 0:
            rates["mfu"] = self._flops / elapsed / self._peak
        self._tokens = self._flops = 0.0
        return rates

    def _tick(self) -> None:
        now = time.perf_counter()
        self.seconds += now - self._since
        self._since = now
