"""Experiments as frozen values: the dataclasses, the command line, and the JSON round trip."""

from memjax.config.command_line import fail as fail
from memjax.config.command_line import parse as parse
from memjax.config.command_line import parse_flags as parse_flags
from memjax.config.experiment import EvaluationConfig as EvaluationConfig
from memjax.config.experiment import MeshConfig as MeshConfig
from memjax.config.experiment import OptimizerConfig as OptimizerConfig
from memjax.config.experiment import TableOptimizerConfig as TableOptimizerConfig
from memjax.config.experiment import TrainConfig as TrainConfig
from memjax.config.experiment import task_suite as task_suite
from memjax.config.fields import ConfigError as ConfigError
from memjax.config.fields import differences as differences
from memjax.config.files import load_file as load_file
from memjax.config.resume import resolve as resolve
from memjax.config.resume import resume as resume
from memjax.config.resume import resume_conflicts as resume_conflicts
from memjax.config.serial import from_json as from_json
from memjax.config.serial import load as load
from memjax.config.serial import register as register
from memjax.config.serial import save as save
from memjax.config.serial import to_json as to_json
from memjax.config.validation import validate as validate
