"""Architectures, one file each: `<Name>Config(...).make(width, rngs=rngs) -> <Name>`."""

from memjax.mixers.attention import Attention as Attention
from memjax.mixers.attention import AttentionConfig as AttentionConfig
from memjax.mixers.delta_net import DeltaNet as DeltaNet
from memjax.mixers.delta_net import DeltaNetConfig as DeltaNetConfig
from memjax.mixers.gated_delta_net import GatedDeltaNet as GatedDeltaNet
from memjax.mixers.gated_delta_net import GatedDeltaNetConfig as GatedDeltaNetConfig
from memjax.mixers.gla import GLA as GLA
from memjax.mixers.gla import GLAConfig as GLAConfig
from memjax.mixers.kimi_delta_attention import KimiDeltaAttention as KimiDeltaAttention
from memjax.mixers.kimi_delta_attention import KimiDeltaAttentionConfig as KimiDeltaAttentionConfig
from memjax.mixers.linear_attention import LinearAttention as LinearAttention
from memjax.mixers.linear_attention import LinearAttentionConfig as LinearAttentionConfig
from memjax.mixers.mamba2 import Mamba2 as Mamba2
from memjax.mixers.mamba2 import Mamba2Config as Mamba2Config
from memjax.mixers.retnet import RetNet as RetNet
from memjax.mixers.retnet import RetNetConfig as RetNetConfig
