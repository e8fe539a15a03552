"""Experiment files: Python files with `get_config() -> TrainConfig`."""

import importlib.util
import os
import sys
import traceback
from pathlib import Path

from memjax.config.experiment import TrainConfig
from memjax.config.fields import ConfigError


def load_file(path: str | os.PathLike) -> TrainConfig:
    """Runs `get_config()` of a Python file. Only ever call it on a file that the user named.

    The file is imported as a module named after it, so dataclasses written in it work, and `register` finds the same
    name the next time. Raises ConfigError that names the file, and the line where its code failed.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such config file")
    spec = importlib.util.spec_from_file_location(_module_name(path), path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: a config file is Python and ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and the help of their fields look the module up by its name
    try:
        spec.loader.exec_module(module)
        get_config = getattr(module, "get_config", None)
        if not callable(get_config):
            raise ConfigError(f"{path}: has no function get_config()")
        config = get_config()
    except ConfigError as error:
        raise (error if str(path) in str(error) else ConfigError(f"{path}: {error}")) from None
    except SyntaxError as error:
        raise ConfigError(f"{path}: line {error.lineno}: {error.msg}") from None
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{path}:{_line(error, path)} {type(error).__name__}: {error}") from error
    if not isinstance(config, TrainConfig):
        raise ConfigError(f"{path}: get_config() returned {type(config).__name__}, not a memjax.config.TrainConfig")
    return config


def _module_name(path: Path) -> str:
    return "memjax_experiment_" + "".join(c if c.isalnum() else "_" for c in path.stem)


def _line(error: BaseException, path: Path) -> str:
    """ " line N:", the deepest line of the file itself that was running."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
    return f" line {lines[-1]}:" if lines else ""
