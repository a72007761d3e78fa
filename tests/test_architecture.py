"""The rooms of the package: which may know which, read from the import statements themselves."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

import unheard

ROOT = Path(unheard.__file__).parent
HEAVY = (
    *("torch", "sklearn", "scipy", "pandas", "polars", "matplotlib", "librosa", "pydantic"),
    *("rich", "requests", "soundfile", "soxr"),
)
LIGHT = ("", ".errors", ".manifest", ".corpora", ".audio", ".splits", ".doctor", ".features", ".recogniser")
BARE = ("", ".errors", ".manifest", ".corpora", ".corpora.synthetic", ".splits", ".doctor")
"""Modules that a program may import for a table only: not even numpy, until a function needs it."""

NO_TORCH = (".cli", ".cli.common", ".cli.use", ".experiments.config", ".experiments.records")
"""Settings, records and commands, which a user waits for."""

LONG = {"experiments/config.py": 495}
"""Files of more than 450 lines with their length, which may only shrink."""

ORDER = ("corpora", "splits", "doctor", "features", "model", "training", "analysis", "experiments", "report", "export")
"""The way of the data; a room imports from the rooms before it."""

TRAINING = ("model", "training", "analysis", "experiments", "report", "export")
USE = ("recogniser", "server", "cli")
NEVER = {room: (*ORDER[place + 1 :], *USE) for place, room in enumerate(ORDER)} | {
    "audio": (*ORDER, *USE),
    "features": ("corpora", "splits", "doctor", *TRAINING, *USE),
    "training": ("corpora", "splits", "doctor", "analysis", "experiments", "report", "export", *USE),
    "training.strategies": ("training.trainer", "training.batches", "training.recipe"),
    "recogniser": (*TRAINING, "server", "cli"),
    "server": (*TRAINING, "cli"),
}
"""Room -> rooms it must not know, also not inside a function."""


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def imported(node: ast.AST, module: str) -> set[str]:
    """The package's own modules that one statement imports."""
    if isinstance(node, ast.Import):
        found = {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
            base = importlib.util.resolve_name("." * node.level + base, package)
        # `from unheard.x import y`: y where it is a module, else x
        found = {f"{base}.{a.name}" if f"{base}.{a.name}" in MODULES else base for a in node.names}
    else:
        found = set()
    return {name for name in found if name == "unheard" or name.startswith("unheard.")} - {module}


@cache
def imports(module: str) -> frozenset[str]:
    """Every import of `module`, those inside functions too."""
    tree = ast.parse(MODULES[module].read_text("utf-8"))
    return frozenset(name for node in ast.walk(tree) for name in imported(node, module))


@cache
def imports_at_once(module: str) -> frozenset[str]:
    """The imports that run when `module` is imported: not those inside functions or under TYPE_CHECKING."""
    found: set[str] = set()
    rest: list[ast.AST] = list(ast.parse(MODULES[module].read_text("utf-8")).body)
    while rest:
        node = rest.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            rest.extend(node.orelse)
            continue
        found |= imported(node, module)
        rest.extend(ast.iter_child_nodes(node))
    return frozenset(found)


def inside(module: str, room: str) -> bool:
    return module == f"unheard.{room}" or module.startswith(f"unheard.{room}.")


def test_the_reader_of_imports_sees_what_is_there() -> None:
    assert "unheard.training.strategies.base" in imports("unheard.training.strategies.cgt")
    assert "unheard.model.layers" in imports("unheard.model.network")
    assert "unheard.errors" in imports_at_once("unheard.training.trainer")


@pytest.mark.parametrize("room", NEVER)
def test_nevers(room: str) -> None:
    broken = [
        f"{module} imports {name}"
        for module in MODULES
        if inside(module, room)
        for name in imports(module)
        if any(inside(name, never) for never in NEVER[room])
    ]
    assert not broken


def test_nothing_imports_cli() -> None:
    outside = [module for module in MODULES if not inside(module, "cli") and module != "unheard.__main__"]
    assert not [module for module in outside if any(inside(name, "cli") for name in imports(module))]


def test_no_circles() -> None:
    path: list[str] = []
    done: set[str] = set()

    def visit(module: str) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in done or module not in MODULES:
            return
        path.append(module)
        for name in sorted(imports_at_once(module)):
            visit(name)
        done.add(path.pop())

    for module in MODULES:
        visit(module)


def test_strategies_do_not_know_each_other() -> None:
    folder = "unheard.training.strategies"
    own = {module for module in MODULES if module.startswith(f"{folder}.") and module != f"{folder}.base"}
    assert not [module for module in own if imports(module) & (own - {module})]


LOADED = """
import importlib, json, sys
before, seen = set(sys.modules), {}
for name in sys.argv[1:]:
    importlib.import_module("unheard" + name)
    seen[name] = sorted({m.split(".")[0] for m in set(sys.modules) - before})
print(json.dumps(seen))
"""


def loaded(names: tuple[str, ...]) -> dict[str, list[str]]:
    """Top-level packages in memory after importing the modules one after the other, in a new interpreter."""
    here = [name for name in names if importlib.util.find_spec(f"unheard{name}")]
    command = [sys.executable, "-W", "error", "-c", LOADED, *here]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("modules", "never"),
    [(LIGHT, HEAVY), (BARE, ("numpy", "soundfile", *HEAVY)), (NO_TORCH, ("torch", "sklearn", "scipy"))],
    ids=["the core is light", "tables need no numpy", "settings, records and commands load no torch"],
)
def test_what_an_import_loads(modules: tuple[str, ...], never: tuple[str, ...]) -> None:
    for name, packages in loaded(modules).items():
        assert not set(packages) & set(never), f"import unheard{name}"


def test_files_and_rooms_are_small() -> None:
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines()) for path in MODULES.values()
    }
    assert {name: n for name, n in lengths.items() if n > LONG.get(name, 450)} == {}
    assert {name for name in LONG if lengths.get(name, 0) <= 450} == set(), (
        "no exception any more: take it off the list"
    )
    rooms = Counter(path.parent.relative_to(ROOT).as_posix() for path in MODULES.values())
    assert {room: n for room, n in rooms.items() if n > 14} == {}
    readme = Path(__file__).parents[1] / "README.md"
    assert len(readme.read_text("utf-8").splitlines()) <= 120


def test_heavy_packages_are_noticed_when_they_are_loaded() -> None:
    assert "numpy" in loaded((".training.metrics",))[".training.metrics"]
