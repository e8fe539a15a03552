"""The gated delta rule on a TPU: the frame of `matrix_memory.pallas_tpu`, with the inverse."""

from memjax.ops.matrix_memory.pallas_tpu import backward as backward
from memjax.ops.matrix_memory.pallas_tpu import forward as forward
from memjax.ops.matrix_memory.pallas_tpu import refusal as refusal
