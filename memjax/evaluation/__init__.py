"""What a trained memory can do: recall accuracy, bits of knowledge, bits per byte, a report with a picture."""

from memjax.evaluation.evaluators import evaluators as evaluators
from memjax.evaluation.flags import Flags as Flags
from memjax.evaluation.harness.request import HarnessRequest as HarnessRequest
from memjax.evaluation.knowledge import bits as bits
from memjax.evaluation.knowledge import bits_per_parameter as bits_per_parameter
from memjax.evaluation.knowledge import knowledge as knowledge
from memjax.evaluation.knowledge import plateau_end as plateau_end
from memjax.evaluation.knowledge import plateau_loss as plateau_loss
from memjax.evaluation.recall import recall as recall
from memjax.evaluation.report import check_request as check_request
from memjax.evaluation.report import evaluate_run as evaluate_run
from memjax.evaluation.report import join_reports as join_reports
from memjax.evaluation.report import joint_directory as joint_directory
from memjax.evaluation.report import write_report as write_report
from memjax.evaluation.runs import load_run as load_run
from memjax.evaluation.text import continue_text as continue_text
from memjax.evaluation.text import sample as sample
from memjax.evaluation.text import text_loss as text_loss
