"""Architectures, one file each: `<Name>Config(...).make(width, rngs=rngs) -> <Name>`."""

from memjax.mixers.attention import Attention as Attention
from memjax.mixers.attention import AttentionConfig as AttentionConfig
from memjax.mixers.gated_delta_net import GatedDeltaNet as GatedDeltaNet
from memjax.mixers.gated_delta_net import GatedDeltaNetConfig as GatedDeltaNetConfig
from memjax.mixers.s4d import S4D as S4D
from memjax.mixers.s4d import S4DConfig as S4DConfig
