"""Pure functions on arrays: jittable, differentiable, free of any neural-network library."""

from memjax.ops import discretize as discretize
from memjax.ops import hippo as hippo
from memjax.ops.diagonal_ssm import diagonal_ssm as diagonal_ssm
from memjax.ops.dplr import DPLR as DPLR
from memjax.ops.dplr import dplr_kernel as dplr_kernel
from memjax.ops.dplr import dplr_ssm as dplr_ssm
from memjax.ops.fft_conv import fft_conv as fft_conv
from memjax.ops.gated_delta_rule import gated_delta_rule as gated_delta_rule
from memjax.ops.gated_linear_attention import gated_linear_attention as gated_linear_attention
from memjax.ops.linear_scan import linear_scan as linear_scan
from memjax.ops.product_key_topk import product_key_topk as product_key_topk
from memjax.ops.short_conv import short_conv as short_conv
from memjax.ops.value_bag import put_rows as put_rows
from memjax.ops.value_bag import row_dots as row_dots
from memjax.ops.value_bag import row_gradients as row_gradients
from memjax.ops.value_bag import take_rows as take_rows
from memjax.ops.value_bag import value_bag as value_bag
