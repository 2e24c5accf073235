"""A file imports from its own floor or the floors above it, and nothing runs in circles.

Every import counts: at the top, inside a function, and under ``if TYPE_CHECKING``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "redisutils"
SOURCE = Path(__file__).parent.parent / "src" / PACKAGE

# From the top, which imports nothing of ours, down. A new file or folder directly under the
# package needs its place here. The root, which offers the public names, stands below what it
# offers: the tools on the floors under it may be its users, what it is made of may not.
ROOT = "__init__"
FLOORS = (
    "version",
    "errors",
    "secret",
    "address",
    "url",
    "settings",
    "files",
    "password_file",
    "values",
    "variables",
    "config_checks",
    "config",
    "retry",
    "_command_table",
    "commands",
    "metrics",
    "connection",
    "pool",
    "topology",
    "client",
    ROOT,
    "trading",
    "monitor",
    "testing",
    "cli",
    "__main__",
)


def modules_of(source: Path) -> dict[str, Path]:
    """Every module below ``source`` by its full name; a package is its ``__init__``."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        found[".".join((PACKAGE, *(part for part in parts if part != "__init__")))] = path
    return found


def imports_of(module: str, path: Path, modules: Mapping[str, Path]) -> Iterator[tuple[int, str]]:
    """Line and full name of each module of ours that ``module`` imports."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                kept = parents[: len(parents) - node.level + 1]
                base = ".".join((*kept, base) if base else kept)
            # A name is a module where there is one of that name, else it lives in the base.
            full = [f"{base}.{alias.name}" for alias in node.names]
            targets = [name if name in modules else base for name in full]
            if base == PACKAGE:
                targets = [base]  # whatever is taken from the root goes through the root
        elif isinstance(node, ast.Call) and _is_dynamic_import(node.func):
            argument = node.args[0] if node.args else None
            if not isinstance(argument, ast.Constant):
                raise AssertionError(
                    f"{path}:{node.lineno}: an import of a computed name cannot be checked"
                )
            targets = [str(argument.value)]
        for target in dict.fromkeys(targets):
            if target.split(".")[0] == PACKAGE:
                yield getattr(node, "lineno", 0), target


def _is_dynamic_import(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("import_module", "__import__")


def floor_of(module: str) -> str:
    return ROOT if module == PACKAGE else module.split(".")[1]


def violations(source: Path) -> list[str]:
    """Each broken rule as ``file:line: what is wrong``; cycles come last."""
    modules = modules_of(source)
    problems: list[str] = []
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        floor = floor_of(module)
        if floor not in FLOORS:
            problems.append(f"{path}:1: {floor} has no place in FLOORS")
            continue
        for line, target in imports_of(module, path, modules):
            where = f"{path}:{line}: {module} imports {target}"
            if target not in modules:
                problems.append(f"{where}, which does not exist")
            elif floor_of(target) in FLOORS and (
                FLOORS.index(floor_of(target)) > FLOORS.index(floor)
            ):
                problems.append(f"{where}, which is on a lower floor")
            else:
                graph.setdefault(module, set()).add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        problems.append(f"a cycle: {' imports '.join(reversed(error.args[1]))}")
    return problems


def test_every_import_goes_upwards_and_none_in_circles() -> None:
    assert not violations(SOURCE), "\n".join(violations(SOURCE))


def test_there_is_something_to_check() -> None:
    assert {"redisutils.errors", "redisutils.config"} <= modules_of(SOURCE).keys()


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"errors.py": "import redisutils.pool", "pool.py": ""}, "lower floor"),
        ({"errors.py": "from redisutils.pool import Pool", "pool.py": ""}, "lower floor"),
        ({"errors.py": "from .pool import Pool", "pool.py": ""}, "lower floor"),
        ({"errors.py": "def f():\n    import redisutils.pool", "pool.py": ""}, "lower floor"),
        (
            {"errors.py": "if TYPE_CHECKING:\n    from redisutils.pool import P", "pool.py": ""},
            "lower floor",
        ),
        ({"errors.py": "import_module('redisutils.pool')", "pool.py": ""}, "lower floor"),
        ({"pool/core.py": "from ..client import core", "client/core.py": ""}, "lower floor"),
        ({"errors.py": "import redisutils", "__init__.py": ""}, "lower floor"),
        (
            {"pool.py": "from redisutils import x", "__init__.py": ""},
            "redisutils, which is on a lower floor",
        ),
        ({"pool.py": "from . import x", "__init__.py": ""}, "lower floor"),
        ({"__init__.py": "from redisutils.cli import main", "cli.py": ""}, "lower floor"),
        ({"pool.py": "from redisutils.gone import x"}, "does not exist"),
        ({"stray.py": ""}, "no place in FLOORS"),
        ({"stray/__init__.py": ""}, "no place in FLOORS"),
        (
            {
                "pool/a.py": "from redisutils.pool import b",
                "pool/b.py": "from redisutils.pool.a import x",
            },
            "a cycle",
        ),
        (
            {
                "pool/__init__.py": "from redisutils.pool.a import A",
                "pool/a.py": "from redisutils.pool import helper",
            },
            "a cycle",
        ),
    ],
)
def test_a_broken_rule_is_seen(files: dict[str, str], problem: str, tmp_path: Path) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    found = violations(tmp_path)
    assert len(found) == 1
    assert problem in found[0]


def test_good_imports_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    (tmp_path / "__init__.py").write_text("from redisutils.pool import Pool")
    (tmp_path / "errors.py").write_text("import os, redis")
    (tmp_path / "pool" / "__init__.py").write_text("from redisutils.pool.core import Pool")
    (tmp_path / "pool" / "core.py").write_text("from redisutils.errors import E\nimport redis")
    (tmp_path / "cli.py").write_text("from redisutils import Pool\nfrom redisutils.errors import E")
    assert violations(tmp_path) == []


def test_a_computed_import_is_refused(tmp_path: Path) -> None:
    (tmp_path / "errors.py").write_text("import_module(name)")
    with pytest.raises(AssertionError, match="cannot be checked"):
        violations(tmp_path)
