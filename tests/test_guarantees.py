"""Each test that the guarantees name is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "guarantees.md").read_text()


def test_each_test_that_holds_a_guarantee_is_there() -> None:
    named = re.findall(r"`(tests/\w+\.py)(?:::(\w+))?`", TEXT)
    assert len(named) > 20
    missing = []
    for file, name in named:
        path = ROOT / file
        functions = {
            node.name
            for node in ast.walk(ast.parse(path.read_text() if path.exists() else ""))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        if not path.exists() or (name and name not in functions):
            missing.append(f"{file}::{name}")
    assert not missing


def test_the_bounds_are_those_of_the_code() -> None:
    from redisutils.connection import flights, protocol
    from redisutils.pool import scouting
    from redisutils.retry import LONGEST_PAUSE

    assert f"| {flights.MAX_IN_FLIGHT:,} |" in TEXT
    assert f"| {flights.MAX_BYTES_IN_FLIGHT // 2**20} MiB, " in TEXT
    assert f"| {protocol.MAX_REPLY_BYTES // 2**30} GiB |" in TEXT
    assert f"longer than {scouting.SCOUT_AFTER} s" in TEXT
    assert f"at least every {LONGEST_PAUSE} s" in TEXT
