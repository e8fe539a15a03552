"""The backbone, its two models (over tokens, over real-valued rows), and decoding."""

from flax import nnx

from memjax.models.generate import generate as generate
from memjax.models.lm import LM as LM
from memjax.models.lm import Backbone as Backbone
from memjax.models.lm import BackboneConfig as BackboneConfig
from memjax.models.lm import BlockConfig as BlockConfig
from memjax.models.lm import LMConfig as LMConfig
from memjax.models.lm import LMOutput as LMOutput
from memjax.models.sequence import SequenceConfig as SequenceConfig
from memjax.models.sequence import SequenceModel as SequenceModel
from memjax.models.sequence import SequenceOutput as SequenceOutput


def build(config: BackboneConfig, *, rngs: nnx.Rngs) -> LM | SequenceModel:
    """The model that a configuration describes, parameters drawn from `rngs`."""
    if isinstance(config, SequenceConfig):
        return SequenceModel(config, rngs=rngs)
    if isinstance(config, LMConfig):
        return LM(config, rngs=rngs)
    raise ValueError(f"{type(config).__name__} describes no model")
