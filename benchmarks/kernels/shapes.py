"""Which shapes are measured."""

from benchmarks.kernels.matrices import GatedDeltaRule, GatedLinearAttention
from benchmarks.kernels.problem import Problem
from benchmarks.kernels.scans import LinearScan
from benchmarks.kernels.tables import RowDots, TableGradient, ValueBag

# B, T, H, D: those that flash-linear-attention's own benchmark takes
SEQUENCES = (
    (1, 8192, 96, 128),
    (2, 16384, 16, 128),
    (4, 2048, 16, 128),
    (4, 4096, 64, 128),
    (8, 2048, 32, 256),
    (8, 1024, 8, 64),
)
MILLION = 1024**2  # rows, the table of two lists of 1024 keys
GATES = ("scalar", "channel")

FULL: tuple[Problem, ...] = (
    *(GatedDeltaRule(*sizes, gate) for gate in GATES for sizes in SEQUENCES),
    *(GatedLinearAttention(*sizes, gate) for gate in GATES for sizes in SEQUENCES),
    LinearScan(8, 4096, 4096),
    LinearScan(1, 32768, 4096),
    LinearScan(8, 2048, 2560),
    LinearScan(8, 4096, 4096, "bfloat16"),
    LinearScan(4, 8192, 1024, "complex64"),
    LinearScan(4, 8192, 1024, "complex64", constant=True),
    ValueBag(MILLION, 1024, 32768, 128),
    ValueBag(MILLION, 2048, 32768, 128),
    ValueBag(MILLION, 1024, 4096, 128),
    ValueBag(4 * MILLION, 1024, 64, 128),  # decoding
    RowDots(MILLION, 1024, 4096, 128),
    RowDots(MILLION, 256, 16384, 64),
    TableGradient(MILLION, 1024, 32768, 128),
    TableGradient(MILLION, 1024, 4096, 128),  # a read or none a row
    TableGradient(1024, 1024, 4096, 128),  # 512 a row
)

SMALL: tuple[Problem, ...] = (
    GatedDeltaRule(1, 64, 2, 16),
    GatedLinearAttention(1, 64, 2, 16, "channel"),
    LinearScan(2, 64, 16, "complex64", constant=True),
    ValueBag(64, 16, 32, 4),
    RowDots(64, 16, 32, 4),
    TableGradient(64, 16, 32, 4),
)

OPS = tuple(dict.fromkeys(problem.op for problem in FULL))
