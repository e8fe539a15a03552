"""Architectures, one file each: `<Name>Config(...).make(width, rngs=rngs) -> <Name>`."""

from memjax.mixers.attention import Attention as Attention
from memjax.mixers.attention import AttentionConfig as AttentionConfig
from memjax.mixers.delta_net import DeltaNet as DeltaNet
from memjax.mixers.delta_net import DeltaNetConfig as DeltaNetConfig
from memjax.mixers.fast_forgetful_memory import FastForgetfulMemory as FastForgetfulMemory
from memjax.mixers.fast_forgetful_memory import FastForgetfulMemoryConfig as FastForgetfulMemoryConfig
from memjax.mixers.gated_delta_net import GatedDeltaNet as GatedDeltaNet
from memjax.mixers.gated_delta_net import GatedDeltaNetConfig as GatedDeltaNetConfig
from memjax.mixers.gla import GLA as GLA
from memjax.mixers.gla import GLAConfig as GLAConfig
from memjax.mixers.hippo_legs import HippoLegS as HippoLegS
from memjax.mixers.hippo_legs import HippoLegSConfig as HippoLegSConfig
from memjax.mixers.kimi_delta_attention import KimiDeltaAttention as KimiDeltaAttention
from memjax.mixers.kimi_delta_attention import KimiDeltaAttentionConfig as KimiDeltaAttentionConfig
from memjax.mixers.linear_attention import LinearAttention as LinearAttention
from memjax.mixers.linear_attention import LinearAttentionConfig as LinearAttentionConfig
from memjax.mixers.mamba2 import Mamba2 as Mamba2
from memjax.mixers.mamba2 import Mamba2Config as Mamba2Config
from memjax.mixers.min_gru import MinGRU as MinGRU
from memjax.mixers.min_gru import MinGRUConfig as MinGRUConfig
from memjax.mixers.min_lstm import MinLSTM as MinLSTM
from memjax.mixers.min_lstm import MinLSTMConfig as MinLSTMConfig
from memjax.mixers.retnet import RetNet as RetNet
from memjax.mixers.retnet import RetNetConfig as RetNetConfig
from memjax.mixers.rg_lru import RGLRU as RGLRU
from memjax.mixers.rg_lru import RGLRUConfig as RGLRUConfig
