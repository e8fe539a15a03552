"""Imports run one way, and importing the library stays light; files and functions stay small."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "memjax"

# A room may import itself and these, nothing else of the project.
MAY_IMPORT = {
    "types": set(),
    "ops": {"types"},
    "layers": {"types", "ops"},
    "mixers": {"types", "ops", "layers"},
    "models": {"types", "layers", "mixers"},
    "tasks": {"types"},
    "data": {"types", "tasks"},
    "sharding": {"types", "models", "mixers", "tasks", "data"},
    "config": {"types", "models", "mixers", "tasks", "data"},
    "training": {"types", "ops", "layers", "mixers", "models", "tasks", "data", "sharding", "config"},
    "evaluation": {"types", "ops", "layers", "mixers", "models", "tasks", "data", "sharding", "config", "training"},
    "interop": {"models", "mixers"},
}
PARTS_OF_OPS = set((LIBRARY / "ops").glob("*/*.py"))
OUTSIDE = {"configs", "tests", "benchmarks", "train", "eval", "tpu"}  # what the library never imports

# {path from the root: why it may be longer}
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}
FILE_LINES, FUNCTION_LINES = 400, 60


def imported(tree: ast.AST, module: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything that `module` imports, at its head and inside functions.

    `from a import b` counts as a.b, which is right where b is a module and harmless where it is a name.
    """
    package = module.split(".")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join([*package[: len(package) - node.level], *filter(None, [node.module])])
                if node.level
                else node.module
            )
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def violations(source: str, module: str) -> list[str]:
    """What the source of `module` (memjax.room.file) imports against the rules, one line each."""
    room = module.split(".")[1] if "." in module else ""
    found = []
    for line, name in imported(ast.parse(source), module):
        parts = name.split(".")
        where = f"{module}:{line} imports {name}"
        if parts[0] in OUTSIDE:
            found.append(f"{where}, which is no part of the library")
        if room == "ops" and parts[0] == "flax":
            found.append(f"{where}: ops are free of flax")
        if parts[0] != "memjax" or len(parts) < 2 or not room:
            continue
        if parts[1] != room and parts[1] not in MAY_IMPORT[room] and parts[1] != "__version__":
            found.append(f"{where}: {room} may import {', '.join(sorted(MAY_IMPORT[room])) or 'nothing'}")
        if room != "ops" and parts[1] == "ops" and LIBRARY.joinpath(*parts[1:4]).with_suffix(".py") in PARTS_OF_OPS:
            found.append(f"{where}: an op is imported as a whole, never one of its implementations")
    return found


def modules() -> dict[str, Path]:
    """{dotted name: file}; a package is named by its __init__, which relative imports count from."""
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(LIBRARY.rglob("*.py"))}


def test_imports_run_one_way():
    found = [v for name, path in modules().items() for v in violations(path.read_text(encoding="utf-8"), name)]
    assert not found, "\n".join(found)


def test_every_room_is_in_the_table():
    rooms = {path.stem for path in LIBRARY.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert rooms - {"__init__"} <= set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("memjax.ops.scan", "from flax import nnx"),
        ("memjax.ops.scan", "import flax.linen as nn"),
        ("memjax.ops.scan", "def f():\n    from memjax.layers import RMSNorm"),
        ("memjax.ops.scan", "from ..layers import norms"),
        ("memjax.mixers.foo", "from memjax.ops.gated_delta_rule import xla"),
        ("memjax.mixers.foo", "import memjax.ops.gated_delta_rule.reference"),
        ("memjax.mixers.foo", "from memjax import models"),
        ("memjax.training.loop", "from memjax.evaluation import evaluators"),
        ("memjax.training.loop", "import memjax.evaluation"),
        ("memjax.evaluation.runs", "import configs.quickstart"),
        ("memjax.types", "from memjax.ops import gated_delta_rule"),
        ("memjax.data.loader", "from memjax import config"),
    ],
)
def test_a_planted_violation_is_found(module, source):
    assert violations(source, module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("memjax.mixers.foo", "from memjax.ops import gated_delta_rule, short_conv"),
        ("memjax.mixers.foo", "from memjax.ops.gated_delta_rule import Implementation"),
        ("memjax.ops.scan", "import jax\nfrom memjax.types import State"),
        (
            "memjax.ops.gated_delta_rule.__init__",
            "from . import xla\nfrom memjax.ops.gated_delta_rule import reference",
        ),
        ("memjax.evaluation.runs", "from memjax import training, __version__"),
    ],
)
def test_what_is_allowed_is_not_found(module, source):
    assert not violations(source, module)


def test_importing_the_parts_is_light():
    """A notebook that only wants a layer pays for no data pipeline, no plots and no other framework."""
    heavy = ("tensorflow", "torch", "matplotlib", "tensorflow_datasets", "grain", "orbax.checkpoint", "pyarrow")
    code = f"""if True:
        import importlib, sys
        for module in ("flax.nnx", "memjax.ops", "memjax.mixers"):
            importlib.import_module(module)
            print(*sorted(set({heavy!r}) & set(sys.modules)))
    """
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    flax, ops, mixers = run.stdout.split("\n")[:3]  # flax imports parts of orbax by itself, before any line of ours
    assert ops == mixers == flax


def too_long(source: str, path: str) -> list[str]:
    """Files and functions of a source above the house's sizes, one line each."""
    found = []
    if (lines := len(source.splitlines())) > FILE_LINES and path not in LONG_FILES:
        found.append(f"{path} has {lines} lines, at most {FILE_LINES}")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1 - _docstring_lines(node)
            if size > FUNCTION_LINES and f"{path}:{node.name}" not in LONG_FUNCTIONS:
                found.append(f"{path}:{node.name} has {size} lines, at most {FUNCTION_LINES}")
    return found


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    is_docstring = ast.get_docstring(node) is not None
    return (first.end_lineno or first.lineno) - first.lineno + 1 if is_docstring else 0


def test_files_and_functions_stay_small():
    sources = [ROOT / "train.py", ROOT / "eval.py", *modules().values(), *sorted((ROOT / "benchmarks").rglob("*.py"))]
    found = [
        line for path in sources for line in too_long(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", ["train.py", "eval.py"])
def test_the_scripts_are_short(name):
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) < 80


def test_a_planted_giant_is_found():
    giant = "def f():\n" + "    x = 1\n" * FUNCTION_LINES
    assert too_long(giant, "memjax/giant.py")
    assert too_long("x = 1\n" * (FILE_LINES + 1), "memjax/giant.py")
    assert not too_long(giant.removesuffix("    x = 1\n"), "memjax/giant.py")
