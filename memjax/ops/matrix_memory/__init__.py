"""What the ops with a matrix a head have in common: checks, padding, the one derivative that all back ends share, and
in `pallas_tpu` and `chunks` the kernel's frame."""

from memjax.ops.matrix_memory.arguments import Arguments as Arguments
from memjax.ops.matrix_memory.arguments import check as check
from memjax.ops.matrix_memory.arguments import prepare as prepare
from memjax.ops.matrix_memory.arguments import widen as widen
from memjax.ops.matrix_memory.rule import How as How
from memjax.ops.matrix_memory.rule import differentiable as differentiable
