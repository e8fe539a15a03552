"""Gated linear attention on a TPU: the frame of `matrix_memory.pallas_tpu`, where nothing is corrected."""

from memjax.ops.matrix_memory import pallas_tpu as frame
from memjax.ops.matrix_memory.pallas_tpu import refusal as refusal


def forward(q, k, v, log_decay, state, index, *, scale, interpret):
    """Arguments and result as in `xla.forward`."""
    return frame.forward(q, k, v, log_decay, None, state, index, scale=scale, interpret=interpret)


def backward(q, k, v, log_decay, state, index, d_o, d_final, *, scale, interpret):
    """Arguments and result as in `xla.backward`."""
    inputs = (q, k, v, log_decay, None, state, index, None, d_o, d_final)
    d_q, d_k, d_v, d_log_decay, _, d_state = frame.backward(*inputs, scale=scale, interpret=interpret)
    return d_q, d_k, d_v, d_log_decay, d_state
