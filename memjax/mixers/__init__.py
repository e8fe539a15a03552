"""Architectures, one file each: `<Name>Config(...).make(width, rngs=rngs) -> <Name>`."""

from memjax.mixers.attention import Attention as Attention
from memjax.mixers.attention import AttentionConfig as AttentionConfig
from memjax.mixers.gated_delta_net import GatedDeltaNet as GatedDeltaNet
from memjax.mixers.gated_delta_net import GatedDeltaNetConfig as GatedDeltaNetConfig
from memjax.mixers.lru import LRU as LRU
from memjax.mixers.lru import LRUConfig as LRUConfig
from memjax.mixers.s4 import S4 as S4
from memjax.mixers.s4 import S4Config as S4Config
from memjax.mixers.s4d import S4D as S4D
from memjax.mixers.s4d import S4DConfig as S4DConfig
from memjax.mixers.s5 import S5 as S5
from memjax.mixers.s5 import S5Config as S5Config
