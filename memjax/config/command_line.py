"""The command line: `train.py CONFIG.py --optimizer.learning-rate 1e-3 --model.blocks.0.mixer.heads 8`.

Every leaf of the configuration that CONFIG.py returns is a flag of its own (tyro); which class stands where is the
file's choice. Errors are one line: tyro decides that something is wrong, the words are found here, by reading each
flag alone.
"""

import contextlib
import dataclasses
import difflib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

from memjax.config.experiment import TrainConfig
from memjax.config.fields import ConfigError, Leaf, flag, holds_part, is_config, leaves, takes
from memjax.config.files import load_file

Config = TypeVar("Config")

_NOTHING = object()

_MARKERS = (tyro.conf.AvoidSubcommands, tyro.conf.HelptextFromCommentsOff)
_ABOUT = (
    "Trains the model that CONFIG.py describes, or goes on with the run in --output-dir. CONFIG.py is a Python file "
    "with get_config() -> memjax.config.TrainConfig; a flag changes a single value of what it returns."
)
_USAGE = "train.py CONFIG.py [--flag value ...]"


def parse(argv: Sequence[str]) -> TrainConfig:
    """The configuration of `CONFIG.py [--flag value ...]`, argv without the program's name.

    `--help` prints every flag with its explanation and its value in CONFIG.py (without CONFIG.py: in a default
    TrainConfig) and raises SystemExit(0). Wrong usage raises ConfigError, one line: callers print it to standard
    error and exit with status 2.
    """
    if argv and not argv[0].startswith("-"):
        return parse_flags(load_file(argv[0]), argv[1:], program=f"train.py {argv[0]}", description=_ABOUT)
    if "--help" in argv or "-h" in argv:
        about = f"{_ABOUT} Shown here: the flags of a default configuration."
        parse_flags(TrainConfig(), ["--help"], program="train.py CONFIG.py", description=about)
    if argv:
        raise ConfigError(f"the config file comes first: {_USAGE}")
    raise ConfigError(f"no config file given: {_USAGE}; --help explains the flags")


def fail(error: Exception, status: int | None = None) -> int:
    """Prints an error as one line on standard error; raises it if MEMJAX_TRACEBACK=1.

    Returns the exit status: `status`, or where it is None 2 for a ConfigError and 1 for anything else.
    """
    if os.environ.get("MEMJAX_TRACEBACK") == "1":
        raise error
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return status if status is not None else 2 if isinstance(error, ConfigError) else 1


def parse_flags(
    default: Config,
    argv: Sequence[str],
    *,
    program: str,
    description: str | None = None,
) -> Config:
    """`default`, any frozen dataclass, with the values that the flags in argv give.

    Args:
        default: what holds where no flag says otherwise; its values also decide which flags there are.
        argv: flags and values; `--no-a.b` switches off what `--a.b` switches on, `_` and `-` are the same in flags.
        program: name of the program in the usage line.
        description: head of the help; None takes the dataclass's docstring.

    Raises ConfigError for an unknown flag (naming the nearest ones) and for a value that a flag does not take;
    SystemExit(0) after `--help`.
    """
    known = {flag(leaf.name): leaf for leaf in leaves(default) if not holds_part(leaf.annotation)}
    arguments = _switches(argv, known)
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            config, rest = tyro.cli(
                type(default),
                prog=program,
                description=description,
                args=arguments,
                default=default,
                config=_MARKERS,
                return_unknown_args=True,
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ConfigError(_blame(arguments, known) or _plain(errors.getvalue())) from None
    except ValueError as error:  # the constructor of `default`'s own class
        raise ConfigError(str(error)) from None
    if rest:
        raise ConfigError(_unknown(rest, known, default))
    return config


def _switches(argv: Sequence[str], known: dict[str, Leaf]) -> list[str]:
    """argv with switches in tyro's spelling: --no-a.b and `--a.b False` become --a.no-b."""
    out: list[str] = []
    tokens = list(argv)
    while tokens:
        token = tokens.pop(0)
        name, equals, value = token.partition("=")
        name = name.replace("_", "-")
        off = name.startswith("--no-") and name not in known
        leaf = known.get("--" + name.removeprefix("--no-") if off else name)
        if leaf is None or leaf.annotation is not bool:
            out.append(token)
            continue
        if not equals and tokens and tokens[0] in ("True", "False", "true", "false"):
            value = tokens.pop(0)
        if value.lower() not in ("", "true", "false"):
            raise ConfigError(f"{name} is a switch ({name} or --no-{name[2:]}), it does not take {value!r}")
        on = (value.lower() != "false") != off
        out.append(_spelled(leaf.name, on))
    return out


def _spelled(name: str, on: bool) -> str:
    head, dot, last = flag(name)[2:].rpartition(".")
    return f"--{head}{dot}{'' if on else 'no-'}{last}"


def _unknown(rest: Sequence[str], known: dict[str, Leaf], default: Any) -> str:
    token = next((token for token in rest if token.startswith("-")), None)
    if token is None:
        return f"unexpected argument {rest[0]!r}: values follow their flag, flags begin with --"
    name = token.partition("=")[0].replace("_", "-")
    part = name.lstrip("-").replace("-", "_")
    if _at(default, part) is not _NOTHING:
        return f"{name} is a part of the configuration and set in the config file; single values of it are flags"
    parent = part.rpartition(".")[0]
    above = _at(default, parent) if parent else _NOTHING
    kind = f" ({parent} holds {type(above).__name__} in this config)" if is_config(above) else ""
    return f"unknown flag {name}{kind}; the nearest are {', '.join(_nearest(name, known))}"


def _at(config: Any, name: str) -> Any:
    """What stands at a dotted path, or _NOTHING."""
    for key in name.split("."):
        if isinstance(config, tuple):
            config = dict(enumerate(config)).get(int(key) if key.isdecimal() else -1, _NOTHING)
        else:
            config = vars(config).get(key, _NOTHING) if is_config(config) else _NOTHING
    return config


def _nearest(name: str, known: dict[str, Leaf]) -> list[str]:
    """The three flags most like `name`, best first."""
    name = "--" + name.lstrip("-").removeprefix("no-")
    return sorted(known, key=lambda other: _likeness(name, other), reverse=True)[:3]


def _likeness(typed: str, name: str) -> float:
    """In [0, 1]. The last part alone counts, too, and its initials: --lr is near --optimizer.learning-rate."""
    short, last = (text.lstrip("-").rpartition(".")[2] for text in (typed, name))
    whole, end = (difflib.SequenceMatcher(None, a, b).ratio() for a, b in ((typed, name), (short, last)))
    initials = "".join(word[:1] for word in last.split("-"))
    return max(whole, 0.95 * end, 0.9 * (initials == short))


def _blame(arguments: Sequence[str], known: dict[str, Leaf]) -> str | None:
    """The first flag whose values it does not take, in words; None if each flag alone is fine."""
    for name, values in _groups(arguments, known):
        annotation = known[name].annotation
        if annotation not in (bool, Any) and not _readable(annotation, values):
            got = repr(" ".join(values)) if values else "nothing"
            return f"{name} takes {takes(annotation)}, got {got}"
    return None


def _groups(arguments: Sequence[str], known: dict[str, Leaf]) -> list[tuple[str, list[str]]]:
    groups: list[tuple[str, list[str]]] = []
    for token in arguments:
        name, equals, value = token.partition("=")
        name = name.replace("_", "-")
        if name in known:
            groups.append((name, [value] if equals else []))
        elif token.startswith("--"):
            groups.append(("", []))
        elif groups:
            groups[-1][1].append(token)
    return [group for group in groups if group[0]]


def _readable(annotation: Any, values: Sequence[str]) -> bool:
    kind = dataclasses.make_dataclass("Value", [("value", annotation)], frozen=True)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            tyro.cli(kind, args=["--value", *values], return_unknown_args=True)
    except SystemExit:
        return False
    return True


def _plain(report: str) -> str:
    """tyro's framed report as one line: without the frame, its title and the pointer to --help."""
    lines = [line.strip("│╭╰╮╯─ ") for line in report.splitlines() if not line.startswith(("╭", "╰"))]
    text = " ".join(line for line in lines if line)
    return text.partition(" For full helptext")[0].removeprefix("Error parsing ")
