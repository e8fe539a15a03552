"""Parts that two or more mixers use."""

from memjax.layers.gated_mlp import GatedMLP as GatedMLP
from memjax.layers.gated_mlp import GatedMLPConfig as GatedMLPConfig
from memjax.layers.linear import Linear as Linear
from memjax.layers.norms import RMSNorm as RMSNorm
from memjax.layers.norms import l2_normalize as l2_normalize
from memjax.layers.rotary import rotary as rotary
