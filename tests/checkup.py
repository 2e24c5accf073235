"""Running ``redisutils check`` inside a test, and all that it shows."""

from __future__ import annotations

import io
import json
import os
import socket
from dataclasses import dataclass
from typing import Any

import pytest
from rich.console import Console

from redisutils.cli.check.finding import Finding, Say
from redisutils.cli.check.report import Report
from redisutils.cli.check.run import Options, check
from redisutils.cli.check.view import PlainView
from redisutils.testing import EmbeddedServer

from .canary import NEEDLE
from .ours import Place

PASSWORD = f"{NEEDLE}-of-the-server"

ONE_LOOP = pytest.mark.asyncio(loop_factories=["uvloop"])
"""For tests of the server: the way there is looked at on both loops."""

ASIDE = ("process", "latency", "slowlog")
"""Steps that may warn of the test's own surroundings: asyncio's debug mode, a busy machine."""

WELL = {"save": "3600 1", "maxmemory": "100mb"}
"""What a server needs for nobody to warn of it."""


def free_port() -> int:
    """One at which nobody answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Checked:
    """What a check has found, and what it has shown."""

    report: Report
    shown: str

    def all(self, step: str, *severities: str) -> list[Finding]:
        """A step's findings of these severities."""
        return [
            one for one in self.report.findings if one.step == step and one.severity in severities
        ]

    @property
    def errors(self) -> list[Finding]:
        return [one for one in self.report.findings if one.severity == "error"]

    @property
    def error(self) -> Finding:
        """The only error, with which the check must have ended in 1."""
        assert self.report.exit_code(strict=False) == 1
        [error] = self.errors
        assert error.remedy
        assert error.found in self.shown
        assert error.remedy in self.shown
        return error

    @property
    def told(self) -> str:
        """The only error and its remedy."""
        return f"{self.error.found} → {self.error.remedy}"

    def warnings(self, *but: str) -> list[str]:
        """All warnings but those of these steps."""
        return [
            one.found
            for one in self.report.findings
            if one.severity == "warning" and one.step not in but
        ]


async def checked(
    *, timeout: float = 2.0, processes: int = 1, key: str = "k", trying: bool = False
) -> Checked:
    """Check what the environment says. No secret may be in anything that comes out."""
    out = io.StringIO()
    view = PlainView(Console(file=out, width=60, highlight=False))
    report = Report()
    with view:
        await check(Options(timeout, processes, key, trying), view, report)
        view.end(report)
    as_json = json.dumps(report.as_dict())
    for shown in (out.getvalue(), as_json):
        assert NEEDLE not in shown
        assert os.environ.get("REDIS_PASSWORD", NEEDLE) not in shown
    assert set(report.as_dict()) == {"status", "endpoint", "findings", "skipped", "seconds"}
    return Checked(report, out.getvalue())


def at(
    patch: pytest.MonkeyPatch,
    place: Place | int,
    server: EmbeddedServer | None = None,
    **variables: object,
) -> None:
    """Set the environment for this place, with the server's password unless another is given."""
    if not isinstance(place, int):
        server = server or (place if isinstance(place, EmbeddedServer) else None)
        place = place.port
    given: dict[str, object] = {"host": "127.0.0.1", "port": place}
    if server is not None:
        given["password"] = server.password
    for name, value in (given | variables).items():
        if value is None:
            patch.delenv(f"REDIS_{name.upper()}", raising=False)
        else:
            patch.setenv(f"REDIS_{name.upper()}", str(value))


def findings_of(judge: Any, *arguments: Any, **more: Any) -> list[Finding]:
    """What a judgement says of these figures."""
    found: list[Finding] = []
    judge(*arguments, Say("step", found.append), **more)
    return found
