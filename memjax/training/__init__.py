"""Training: `fit(config)` starts, resumes or extends a run."""

from memjax.training.finite import NonFiniteError as NonFiniteError
from memjax.training.loop import Evaluator as Evaluator
from memjax.training.loop import FitResult as FitResult
from memjax.training.loop import fit as fit
