"""Walking a configuration: its leaves with their names, what a leaf takes, what differs between two of them.

A configuration is a tree whose inner nodes are dataclasses and tuples that hold a dataclass; everything else is a
leaf. A leaf is named by its path, "model.blocks.0.mixer.heads"; its flag is "--model.blocks.0.mixer.heads" with
dashes for underscores.
"""

import dataclasses
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Union


class ConfigError(ValueError):
    """A configuration, a flag or a file of them that cannot be used. The message is one line."""

    def __init__(self, message: str):
        super().__init__(" ".join(str(message).split()))


class Leaf(NamedTuple):
    """One settable value.

    Attributes:
        name: dotted path from the root.
        annotation: the field's type as annotated; Any where that is unknown.
        value: what stands there now.
    """

    name: str
    annotation: Any
    value: Any


def leaves(config: Any, prefix: str = "") -> Iterator[Leaf]:
    """The leaves of a configuration, in the order of its fields. The types are those of the values that are there."""
    hints = annotations(type(config))
    for field in dataclasses.fields(config):
        if field.init:
            yield from _walk(prefix + field.name, hints[field.name], getattr(config, field.name))


def _walk(name: str, annotation: Any, value: Any) -> Iterator[Leaf]:
    if is_config(value):
        yield from leaves(value, f"{name}.")
    elif isinstance(value, tuple) and any(is_config(entry) for entry in value):
        for index, entry in enumerate(value):
            yield from _walk(f"{name}.{index}", Any, entry)
    else:
        yield Leaf(name, annotation, value)


def is_config(value: Any) -> bool:
    """True for an instance (not a class) of a dataclass."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def key(kind: type) -> str:
    """The name of a class in a file, and what makes two classes the same: a notebook defines one more than once."""
    return f"{kind.__module__}:{kind.__qualname__}"


def annotations(kind: type) -> dict[str, Any]:
    """The annotated type of each field; Any where it cannot be resolved (names local to a notebook's function)."""
    try:
        hints = typing.get_type_hints(kind)
    except (NameError, TypeError, AttributeError):
        hints = {}
    return {
        field.name: hints.get(field.name, Any if isinstance(field.type, str) else field.type)
        for field in dataclasses.fields(kind)
    }


def holds_part(annotation: Any) -> bool:
    """Whether a field of this type is for dataclasses (`Part | None`, `tuple[Part, ...]`), even if none is there."""
    return dataclasses.is_dataclass(annotation) or any(map(holds_part, typing.get_args(annotation)))


def flag(name: str) -> str:
    """The flag of a leaf: "optimizer.learning_rate" -> "--optimizer.learning-rate"."""
    return "--" + name.replace("_", "-")


def takes(annotation: Any) -> str:
    """What a leaf of this type takes, in words: "an integer or None"."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join(map(takes, arguments))
    if origin is tuple:
        if arguments[-1:] == (...,):
            return f"any number of values, each {takes(arguments[0])}"
        return f"{len(arguments)} values: {', '.join(map(takes, arguments))}"
    words = {
        int: "an integer",
        float: "a number",
        str: "text",
        bool: "True or False",
        type(None): "None",
    }
    return words.get(annotation, getattr(annotation, "__name__", str(annotation)))


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value is of the annotated type. An integer is a number; a type that is not understood fits."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    if origin in (Union, types.UnionType):
        return any(fits(value, choice) for choice in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if arguments[-1:] == (...,):
            return all(fits(entry, arguments[0]) for entry in value)
        return len(value) == len(arguments) and all(map(fits, value, arguments))
    if annotation is Any:
        return True
    if annotation in (int, float):
        return not isinstance(value, bool) and isinstance(value, (int, annotation))
    if annotation is type(None) or annotation is None:
        return value is None
    return not isinstance(annotation, type) or isinstance(value, annotation)


def differences(a: Any, b: Any) -> list[str]:
    """What `b` has changed in `a`, a line a field: "optimizer.learning_rate: 0.01 -> 0.02".

    Where the class of a part or the length of a tuple differs, that is the line; what lies below is not listed.
    """
    return [f"{name}: {before} -> {after}" for name, before, after in changed(a, b)]


def changed(a: Any, b: Any, name: str = "") -> Iterator[tuple[str, str, str]]:
    """The changed places of two configurations as (name, before, after), the last two as text to show."""
    if is_config(a) and is_config(b) and key(type(a)) == key(type(b)):
        for field in dataclasses.fields(a):
            before, after = (getattr(config, field.name, None) for config in (a, b))
            yield from changed(before, after, f"{name}.{field.name}" if name else field.name)
    elif _is_list(a) and _is_list(b) and len(a) == len(b):
        for index, (before, after) in enumerate(zip(a, b, strict=True)):
            yield from changed(before, after, f"{name}.{index}")
    elif a != b:
        yield name or "config", _shown(a), _shown(b)


def _is_list(value: Any) -> bool:
    return isinstance(value, tuple) and any(is_config(entry) for entry in value)


def _shown(value: Any) -> str:
    if is_config(value):
        return type(value).__name__
    if _is_list(value):
        return f"({', '.join(map(_shown, value))})"
    return repr(value)
