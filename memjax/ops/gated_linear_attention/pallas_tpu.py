"""Gated linear attention on a TPU: the frame of `matrix_memory.pallas_tpu`, where nothing is corrected."""

from memjax.ops.matrix_memory import devices
from memjax.ops.matrix_memory import pallas_tpu as frame
from memjax.ops.matrix_memory.pallas_tpu import refusal as refusal

forward, backward = devices.without_beta(frame.forward, frame.backward)
