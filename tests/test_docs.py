"""Every block of Python in README.md and docs/ does what its page says.

A block is one of three things, by what is in it:

* a test (``def test_``), which runs under pytest with our plugin, in pytest-asyncio's auto mode;
* a program (``asyncio.run(``), which runs as it stands, with ``REDIS_URL=embedded://``;
* a fragment: anything else. It runs as the body of a coroutine in which our public names, those
  of ``redisutils.testing`` and an open ``pool`` are there.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

import redisutils
import redisutils.testing
from redisutils.testing import EmbeddedServer, find_servers

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TEST = re.compile(r"^(async )?def test_", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    code: str

    def __str__(self) -> str:
        return f"{self.page.stem}-{self.line}"

    @property
    def kind(self) -> Literal["test", "program", "fragment"]:
        if _TEST.search(self.code):
            return "test"
        return "program" if "asyncio.run(" in self.code else "fragment"


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        # A traceback then names the line of the page.
        yield Block(page, text.count("\n", 0, found.start(1)) + 1, found.group(1))


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def named(page: Path) -> str:
    return page.stem


def of_kind(kind: str) -> list[Block]:
    return [block for block in BLOCKS if block.kind == kind]


def ran(*command: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Python with ``command``, in an environment that says nothing of a Redis or of pytest."""
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("REDIS_", "PYTEST_"))
    }
    return subprocess.run(
        [sys.executable, "-W", "error", *command],
        cwd=cwd,
        env={**env, "PYTHONPATH": str(ROOT / "src"), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("page", [page for page in PAGES if "docs" in page.parts], ids=named)
def test_no_block_of_a_page_is_overlooked(page: Path) -> None:
    fences = re.findall(r"^\s*(?:```|~~~)\s*(?:python|py)\b", page.read_text(), re.MULTILINE)
    assert len(fences) == len(list(blocks_of(page)))


@pytest.mark.parametrize("page", dict.fromkeys(block.page for block in of_kind("test")), ids=named)
def test_tests(page: Path, tmp_path: Path) -> None:
    mine = [block for block in of_kind("test") if block.page == page]
    for block in mine:
        (tmp_path / f"test_line_{block.line}.py").write_text(block.code, encoding="utf-8")
    plugins = ("-p", "redisutils.testing.plugin", "-p", "pytest_asyncio.plugin")
    options = ("asyncio_mode=auto", "asyncio_default_fixture_loop_scope=function")
    done = ran(
        *("-m", "pytest", "-q", *plugins, *(part for option in options for part in ("-o", option))),
        *("--redis-server", next(iter(find_servers()))),
        cwd=tmp_path,
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
    )
    assert done.returncode == 0, done.stdout
    tests = sum(len(_TEST.findall(block.code)) for block in mine)
    assert f"{tests} passed" in done.stdout, done.stdout


@pytest.mark.parametrize("block", of_kind("program"), ids=str)
def test_program(block: Block, tmp_path: Path) -> None:
    program = tmp_path / f"{block}.py"
    program.write_text(block.code, encoding="utf-8")
    done = ran(str(program), cwd=tmp_path, REDIS_URL="embedded://")
    assert done.returncode == 0, done.stderr  # it may have logged a warning


@pytest.mark.parametrize("block", of_kind("fragment"), ids=str)
@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_fragment(block: Block) -> None:
    packages = (redisutils, redisutils.testing)
    names = {name: getattr(package, name) for package in packages for name in package.__all__}
    tree = ast.increment_lineno(ast.parse(block.code), block.line - 1)
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(tree, str(block.page), "exec", flags)
    async with EmbeddedServer() as server, redisutils.create_redis_pool(url=server.url) as pool:
        body = types.FunctionType(code, {**names, "contextlib": contextlib, "pool": pool})()
        if inspect.isawaitable(body):
            await body
