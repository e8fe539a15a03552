"""The backbone and decoding."""

from memjax.models.generate import generate as generate
from memjax.models.lm import LM as LM
from memjax.models.lm import BlockConfig as BlockConfig
from memjax.models.lm import LMConfig as LMConfig
from memjax.models.lm import LMOutput as LMOutput
