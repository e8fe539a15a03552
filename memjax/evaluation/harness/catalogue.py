"""Which names `--harness` takes: the local tasks of this package, and what the installed harness has.

The harness describes its tasks in some 14,000 files, which it parses in half a minute. To know whether a name exists
they are only searched, line by line.
"""

import difflib
import functools
import importlib.util
import re
from pathlib import Path

from memjax.config import ConfigError

TASKS = Path(__file__).parent / "tasks"
"""The local tasks, a YAML file each."""
WITH_FILE = ("cloze", "cloze_twice")
"""The local tasks that name their file: `cloze:FILE.jsonl`."""

_NAMES = re.compile(
    r"^[\"']?(task|group|tag)[\"']?:[ \t]*(?:\n((?:[ \t]*-[ \t].*\n?)+)|[\"']?([^\s\"'#\[]+))", re.MULTILINE
)
_ENTRY = re.compile(r"-[ \t]+(?:task: *)?[\"']?([^\s\"'#]+)")


def local_names() -> list[str]:
    """The names of the local tasks, without the file that some of them take."""
    return sorted(path.stem for path in TASKS.glob("*.yaml"))


def split(name: str) -> tuple[str, str]:
    """The task of a name, and the file that stands behind its colon ("" where there is none)."""
    task, _, argument = name.partition(":")
    return task, argument


def is_local(name: str) -> bool:
    """Whether a name means a task of this package; ConfigError where its file is missing from the name, or too much."""
    task, argument = split(name)
    if task not in local_names():
        return False
    if task in WITH_FILE and not argument:
        raise ConfigError(f"--harness {task} needs a file: {task}:FILE.jsonl")
    if task not in WITH_FILE and ":" in name:
        raise ConfigError(f"--harness {task} takes no file; {', '.join(f'{known}:FILE.jsonl' for known in WITH_FILE)}")
    return True


def find(name: str) -> Path | None:
    """The file of a single task of the installed harness; None for a group or a tag of tasks.

    Raises ConfigError for a name that it does not have, with those that are most like it.
    """
    known = harness_names()
    if name not in known:
        offered = [f"{own}:FILE.jsonl" if own in WITH_FILE else own for own in local_names()]
        near = difflib.get_close_matches(name, [*local_names(), *known], n=5, cutoff=0.6)
        hint = f"the nearest are {', '.join(near)}; " if near else ""
        raise ConfigError(f"unknown harness task {name!r}: {hint}without a network there are {', '.join(offered)}")
    return known[name]


@functools.lru_cache(maxsize=1)
def harness_names() -> dict[str, Path | None]:
    """{name: its file, or None for a group or tag} of the installed harness."""
    package = importlib.util.find_spec("lm_eval")
    assert package is not None and package.origin is not None
    found: dict[str, Path | None] = {}
    for path in sorted((Path(package.origin).parent / "tasks").rglob("*")):
        if path.suffix in ("", ".yaml") and path.is_file():  # what several tasks include has no suffix
            for kind, entries, name in _NAMES.findall(path.read_text(encoding="utf-8", errors="replace")):
                for entry in [name] if name else _ENTRY.findall(entries):
                    found.setdefault(entry, None)
                if name and kind == "task" and path.suffix == ".yaml":
                    found[name] = path
    return found
