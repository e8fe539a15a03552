"""Kernels on the accelerator that is there, beside XLA and peers: the parts of `tpu/bench_kernels.py`.

problem      what every problem is: inputs, a slice known in float64, bytes and FLOPs; `matrices`, `scans` and
             `tables` are those of the ops, `shapes` lists them
contender    who runs a problem: the implementations of our ops, attention, and `torch_peers`
measure      correctness first, then times in turns
ceilings     what the chip reaches at copying and at multiplying matrices, measured in the same run
record       tables, ratios, the shapes at which a kernel is not to be picked, and JSON
"""
