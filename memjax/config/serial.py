"""Configurations as JSON. What is read back is data: it can name a class of memjax, it can never make Python run.

    {"class": "memjax.mixers.gated_delta_net:GatedDeltaNetConfig", "heads": 4, "limits": [0.0, {"float": "inf"}], ...}

A dataclass is an object with its class and its fields, a tuple is an array (arrays are always read as tuples: a list
would not be hashable), an infinite float is {"float": "inf"} or {"float": "-inf"}. NaN is refused: it equals nothing,
so a run that held one could not be compared with itself.

Classes that are read back: frozen dataclasses defined in the rooms of memjax that define configurations, and those
that the caller passed to `register`. Only their constructors are called, with values of the annotated types.
"""

import dataclasses
import importlib
import json
import math
import os
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeGuard, TypeVar

from memjax.config.experiment import TrainConfig
from memjax.config.fields import ConfigError, annotations, fits, is_config, key, takes

Class = TypeVar("Class", bound=type)

_ROOMS = ("config", "data", "layers", "mixers", "models", "tasks")
_NAME = re.compile(
    rf"(memjax\.(?:{'|'.join(_ROOMS)})(?:\.(?!__)[A-Za-z_]\w*)*):((?!__)[A-Za-z_]\w*)",
    re.ASCII,
)
_registered: dict[str, type] = {}


def register(kind: Class) -> Class:
    """Lets configurations hold instances of a frozen dataclass defined outside memjax. Works as a decorator.

    The name in the JSON is "module:Class", so `__main__:MyConfig` for one written in a notebook: the session that
    reads it registers it, too. Raises ConfigError for anything but a frozen dataclass.
    """
    if not _is_frozen_dataclass(kind):
        raise ConfigError(f"register: {kind!r} is not a frozen dataclass")
    _registered[key(kind)] = kind
    return kind


def to_json(config: Any) -> dict[str, Any]:
    """A dataclass as JSON values, see the head of this file.

    Raises ConfigError where a value has no JSON form that reads back as the same value: lists, dictionaries, arrays,
    functions, NaN, and dataclasses of other libraries that were not registered.
    """
    if not is_config(config):
        raise ConfigError(f"to_json: {type(config).__name__} is not a configuration")
    return _encode(config, type(config).__name__)


def from_json(value: Any) -> Any:
    """The dataclass that `to_json` wrote, from a JSON object. Fields that are missing take their defaults.

    Raises ConfigError for classes and fields that are not known, and for values that do not fit their fields.
    """
    if not isinstance(value, Mapping):
        raise ConfigError(f"a configuration is a JSON object, not {type(value).__name__}")
    try:
        return _build(value, Any, "")
    except RecursionError:
        raise ConfigError("the configuration is nested too deeply") from None


def save(config: Any, path: str | os.PathLike) -> None:
    """Writes a configuration to a file, which is at every instant the old one or the new one, whole."""
    path = Path(path)
    text = json.dumps(to_json(config), indent=2, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: str | os.PathLike) -> TrainConfig:
    """The TrainConfig in a file that `save` wrote. Raises ConfigError that names the file and what is wrong in it."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        config = from_json(value)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not JSON ({error})") from None
    if not isinstance(config, TrainConfig):
        raise ConfigError(f"{path}: holds a {type(config).__name__}, not a TrainConfig")
    return config


def _encode(value: Any, where: str) -> Any:
    if is_config(value):
        name = key(type(value))
        if _find(name) is None:
            raise ConfigError(f"{where}: {name} is not a class of memjax; pass it to memjax.config.register first")
        fields = (field.name for field in dataclasses.fields(value) if field.init)
        return {"class": name} | {field: _encode(getattr(value, field), f"{where}.{field}") for field in fields}
    if isinstance(value, tuple):
        return [_encode(entry, f"{where}.{index}") for index, entry in enumerate(value)]
    if isinstance(value, float) and math.isinf(value):
        return {"float": "inf" if value > 0 else "-inf"}
    if isinstance(value, float) and math.isnan(value):
        raise ConfigError(f"{where}: NaN cannot be saved")
    if isinstance(value, float):
        return float(value)  # a numpy float64 is a float, too
    if value is None or type(value) in (bool, int, str):
        return value
    raise ConfigError(f"{where}: a {type(value).__name__} cannot be saved; use numbers, text, tuples and dataclasses")


def _decode(value: Any, annotation: Any, where: str) -> Any:
    if isinstance(value, Mapping) and set(value) == {"float"}:
        if value["float"] not in ("inf", "-inf"):
            raise ConfigError(f"{where}: {value['float']!r} is not inf or -inf")
        value = float(value["float"])
    elif isinstance(value, Mapping):
        return _build(value, annotation, where)
    elif isinstance(value, list):
        value = tuple(_decode(entry, _entry(annotation, i), f"{where}.{i}") for i, entry in enumerate(value))
    choices = typing.get_args(annotation) or (annotation,)
    if type(value) is int and float in choices and int not in choices:
        value = float(value)  # JSON writers are free to print 1.0 as 1
    if not fits(value, annotation):
        raise ConfigError(f"{where}: {value!r} does not fit, it takes {takes(annotation)}")
    return value


def _build(value: Mapping[str, Any], annotation: Any, where: str) -> Any:
    name, prefix = value.get("class"), f"{where}: " if where else ""
    kind = _find(name) if isinstance(name, str) else None
    if kind is None:
        hint = "; a class of your own is passed to memjax.config.register before" if isinstance(name, str) else ""
        raise ConfigError(f"{prefix}class {name!r} is not a configuration class of this memjax{hint}")
    if not _may_hold(annotation, kind):
        raise ConfigError(f"{prefix}{kind.__name__} does not fit, it takes {takes(annotation)}")
    hints = annotations(kind)
    known = {field.name for field in dataclasses.fields(kind) if field.init}
    unknown = [name for name in value if name != "class" and name not in known]
    if unknown:
        names = ", ".join(map(repr, unknown))
        raise ConfigError(f"{prefix}{kind.__name__} has no field {names}; was this written by a newer memjax?")
    dot = "." if where else ""
    fields = {
        name: _decode(entry, hints[name], f"{where}{dot}{name}") for name, entry in value.items() if name != "class"
    }
    try:
        return kind(**fields)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{prefix}{kind.__name__}: {error}") from None


def _find(name: str) -> type | None:
    """The class of that name if configurations may hold it. Imports nothing outside the rooms of memjax."""
    if name in _registered:
        return _registered[name]
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    module_name, attribute = match.groups()
    try:
        module = importlib.import_module(module_name)
    except ImportError:
        return None
    kind = vars(module).get(attribute)
    return kind if _is_frozen_dataclass(kind) and key(kind) == name else None


def _is_frozen_dataclass(kind: Any) -> TypeGuard[type]:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind) and vars(kind)["__dataclass_params__"].frozen


def _may_hold(annotation: Any, kind: type) -> bool:
    """Whether a field of this annotated type may hold an instance of `kind`, before there is one."""
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    choices = typing.get_args(annotation) if is_union else (annotation,)
    return any(choice is Any or (isinstance(choice, type) and issubclass(kind, choice)) for choice in choices)


def _entry(annotation: Any, index: int) -> Any:
    """The annotated type of an entry of a tuple; of the first tuple in a union."""
    if typing.get_origin(annotation) is not tuple:
        tuples = [choice for choice in typing.get_args(annotation) if typing.get_origin(choice) is tuple]
        return _entry(tuples[0], index) if tuples else Any
    arguments = typing.get_args(annotation)
    if arguments[-1:] == (...,):
        return arguments[0]
    return arguments[index] if index < len(arguments) else Any


def _refuse_constant(name: str) -> NoReturn:
    raise ConfigError(f"{name} is not a JSON value")
