"""Parts that two or more mixers use."""

from memjax.layers import stable_rate as stable_rate
from memjax.layers.complex_pairs import join_pair as join_pair
from memjax.layers.complex_pairs import split_pair as split_pair
from memjax.layers.decay_gate import gate_log_decay as gate_log_decay
from memjax.layers.decay_gate import gate_step as gate_step
from memjax.layers.decay_gate import init_decay_gate as init_decay_gate
from memjax.layers.decay_gate import init_log_step as init_log_step
from memjax.layers.decay_gate import init_step_bias as init_step_bias
from memjax.layers.gated_mlp import GatedMLP as GatedMLP
from memjax.layers.gated_mlp import GatedMLPConfig as GatedMLPConfig
from memjax.layers.linear import Linear as Linear
from memjax.layers.memory_table import READS as READS
from memjax.layers.memory_table import MemoryTable as MemoryTable
from memjax.layers.memory_table import Read as Read
from memjax.layers.memory_table import StackedTable as StackedTable
from memjax.layers.memory_table import TableReader as TableReader
from memjax.layers.memory_usage import usage_metrics as usage_metrics
from memjax.layers.norms import RMSNorm as RMSNorm
from memjax.layers.norms import l2_normalize as l2_normalize
from memjax.layers.positive import positive as positive
from memjax.layers.product_keys import ProductKeys as ProductKeys
from memjax.layers.rotary import rotary as rotary
from memjax.layers.short_conv import ShortConv as ShortConv
