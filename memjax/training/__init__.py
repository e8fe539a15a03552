"""Training: `fit(config)` starts, resumes or extends a run."""

from memjax.training.compiled import keep_compiled_programs as keep_compiled_programs
from memjax.training.finite import NonFiniteError as NonFiniteError
from memjax.training.loop import Evaluator as Evaluator
from memjax.training.loop import FitResult as FitResult
from memjax.training.loop import fit as fit
