"""What the command line prints may not arrive: no traceback, a code that says so, no key left."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import redisutils
from redisutils import cli
from redisutils.cli.output import Output
from redisutils.testing import EmbeddedServer

from .servers import client_of

SOURCE = Path(redisutils.__file__).parent.parent  # also where the package is not installed

BENCH = ["bench", "--seconds=0.1", "--warmup=0", "--keys=10", "--rate=100"]
DEMO = ["demo", "--trades=50", "--tasks=2", "--plain"]

TO_NOBODY = (["--version"], ["check", "--json"], ["top", "--once"], BENCH, DEMO)
TO_A_FULL_DISK = (["--version"], ["check"], [*BENCH, "--json"], DEMO)


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    """One of any kind: it is not what is looked at."""
    with EmbeddedServer() as server:
        yield server


def run_all(
    commands: tuple[list[str], ...], stdout: int, server: EmbeddedServer, **variables: str
) -> list[tuple[int, str]]:
    """Each command's code and complaint. All at once: starting them is most of the work."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", "from redisutils.cli import main; main()", *arguments],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            env=kept | {"PYTHONPATH": str(SOURCE), "REDIS_URL": server.url} | variables,
        )
        for arguments in commands
    ]
    ended = [(process, process.communicate(timeout=60)[1]) for process in started]
    with client_of(server.url) as admin:
        assert admin.dbsize() == 0
    return [(process.returncode, complaint) for process, complaint in ended]


def test_whoever_reads_it_may_go(server: EmbeddedServer) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = run_all(TO_NOBODY, writing, server)
    finally:
        os.close(writing)
    assert ended == [(141, "")] * len(ended)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk(server: EmbeddedServer) -> None:
    why = "redisutils: standard output cannot be written: No space left on device\n"
    with open("/dev/full", "w", encoding="utf-8") as file:
        ended = run_all(TO_A_FULL_DISK, file.fileno(), server)
        ended += run_all((["--version"],), file.fileno(), server, PYTHONUNBUFFERED="1")
    assert ended == [(74, why)] * len(ended)


def test_ctrl_c_while_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loading(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "redisutils.cli.app", Loading("redisutils.cli.app"))
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    assert ended.value.__suppress_context__


def test_a_terminal_without_unicode_sees_what_looks_alike() -> None:
    file = io.BytesIO()
    output = Output(io.TextIOWrapper(file, "ascii"))
    output.write("✓ 12 µs · p50 – ▁▄█ ⣀⠤ → ë")
    output.flush()
    assert file.getvalue() == b"+ 12 us | p50 - _=# .. > ?"
