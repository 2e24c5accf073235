"""``redisutils check``: how severe a figure is that no server here can be made to have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from redisutils.cli.check.case import Case
from redisutils.cli.check.clients import check_clients
from redisutils.cli.check.clock import judge_clock
from redisutils.cli.check.finding import Say
from redisutils.cli.check.latency import judge_latency
from redisutils.cli.check.login import judge_access
from redisutils.cli.check.memory import judge_memory
from redisutils.cli.check.persistence import check_persistence
from redisutils.cli.check.replication import check_replication
from redisutils.cli.check.server import judge_version
from redisutils.cli.check.steps import STEPS
from redisutils.cli.check.tls import DAY, judge_expiry
from redisutils.cli.check.units import listed, size, span
from redisutils.cli.loading import load
from redisutils.metrics import Split
from redisutils.testing import EmbeddedServer

from .checkup import ONE_LOOP, at, checked, findings_of
from .surroundings import clear


@pytest.mark.parametrize(
    ("ahead", "doubt", "severity"),
    [
        (0.05, 0.01, "ok"),
        (-0.5, 0.01, "note"),
        (0.5, 0.45, "ok"),
        (-2.0, 0.1, "warning"),
        (60.0, 0.1, "error"),
    ],
)
def test_clocks_apart(ahead: float, doubt: float, severity: str) -> None:
    [finding] = findings_of(judge_clock, ahead, doubt)
    assert finding.severity == severity
    if severity != "ok":
        assert ("ahead of" if ahead > 0 else "behind") in finding.found
        assert "NTP" in (finding.remedy or "")


@pytest.mark.parametrize(
    ("days", "severity"), [(90, "ok"), (29, "warning"), (6.9, "error"), (-1, "error")]
)
def test_certificates_that_end(days: float, severity: str) -> None:
    [finding] = findings_of(judge_expiry, days * DAY)
    assert finding.severity == severity


def test_access_over_a_network() -> None:
    def told(**how: bool) -> list[str]:
        given = {"local": False, "open_door": False, "with_password": True, "encrypted": True}
        found: list[Any] = []
        judge_access(Say("login", found.append), **(given | how))
        return [f"{one.severity}: {one.found}" for one in found]

    assert told() == []
    assert told(encrypted=False) == [
        "warning: the password, and all data, cross the network in plain"
    ]
    assert told(encrypted=False, local=True) == []
    [open_door] = told(open_door=True, with_password=False)
    assert open_door.startswith("warning: the server obeys anyone")
    [useless] = told(open_door=True, local=True)
    assert useless.startswith("note: a password is set here, and the server wants none")


@pytest.mark.parametrize(
    ("kind", "version", "severity"),
    [("Redis", "4.0.9", "warning"), ("Redis", "6.2.14", "note"), ("Redis", "8.2.1", None),
     ("Valkey", "7.2.4", None), ("Valkey", "9.1.0", None)],
)  # fmt: skip
def test_old_versions(kind: str, version: str, severity: str | None) -> None:
    found = findings_of(judge_version, kind, version)
    assert [one.severity for one in found] == ([severity] if severity else [])


def test_memory_without_a_limit() -> None:
    info = {"used_memory": 1 << 30, "used_memory_rss": 1 << 30, "total_system_memory": 8 << 30}
    [local] = findings_of(judge_memory, info, local=True)
    assert local.severity == "note"
    [remote] = findings_of(judge_memory, info, local=False)
    assert remote.severity == "warning"
    assert "1 GB used of the machine's 8 GB" in remote.found
    [large] = findings_of(judge_memory, info | {"used_memory_rss": 5 << 30}, local=True)[:1]
    assert large.severity == "warning"


@pytest.mark.parametrize(
    ("p50", "p99", "local", "severity", "words"),
    [
        (0.0001, 0.0005, True, "ok", "same machine"),
        (0.0007, 0.002, False, "ok", "the same zone"),
        (0.0021, 0.004, False, "ok", "another zone"),
        (0.0021, 0.004, True, "warning", "slow for one machine"),
        (0.001, 0.05, False, "note", "uneven"),
        (0.15, 0.2, False, "warning", "another continent"),
    ],
)
def test_round_trips(p50: float, p99: float, local: bool, severity: str, words: str) -> None:
    found: list[Any] = []
    judge_latency(200, p50, p99, p99, Split(wire=p50), Say("latency", found.append), local=local)
    assert found[0].severity == severity
    assert words in found[0].found


def test_units() -> None:
    assert [span(s) for s in (0, 85e-6, 0.00041, 0.0041, 0.041, 1.2, 45, 600, 20_000, 1e6)] == [
        "0 s",
        "85 µs",
        "0.41 ms",
        "4.1 ms",
        "41 ms",
        "1.2 s",
        "45 s",
        "10 min",
        "6 h",
        "12 days",
    ]
    assert [size(n) for n in (512, 1536, 64 << 20, 1010, 24 << 30)] == [
        "512 B",
        "1.5 kB",
        "64 MB",
        "1010 B",
        "24 GB",
    ]
    assert [listed(w) for w in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "none",
        "a",
        "a and b",
        "a, b and c",
    ]


# --- what cannot be judged ---


@ONE_LOOP
@pytest.mark.parametrize(
    ("step", "severity"), [("login", "error"), ("server", "error"), ("slowlog", "warning")]
)
async def test_a_step_that_breaks_is_no_all_clear(
    step: str,
    severity: str,
    server: EmbeddedServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    async def breaks(case: Case, say: Say) -> None:
        raise KeyError("proto\x1b[31m")

    clear(monkeypatch, tmp_path)
    at(monkeypatch, server)
    steps = [replace(one, run=breaks) if one.name == step else one for one in STEPS]
    monkeypatch.setattr("redisutils.cli.check.run.STEPS", steps)
    found = await checked()
    [finding] = found.all(step, "ok", "note", "warning", "error")
    assert finding.severity == severity
    assert finding.found.startswith("could not be judged: KeyError")
    assert "\x1b" not in finding.found
    assert "nothing is wrong" not in found.shown
    assert found.report.exit_code(strict=True) == 1
    after = {one.name for one in STEPS if one.after == step} - {"topology"}  # there is but one
    assert after <= found.report.skipped.keys()
    if step != "slowlog":
        assert found.report.skipped["memory"] == found.report.skipped["clock"] == f"{step} failed"
        assert not {"memory", "clock"} & {one.step for one in found.report.findings}


@ONE_LOOP
async def test_a_figure_that_is_none_costs_its_own_judgement_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clear(monkeypatch, tmp_path)
    case = Case(load(), 1.0, 1, "k")
    case.info = {
        "maxclients": "x",
        "rejected_connections": 3,
        "aof_enabled": "1,2",
        "used_memory": "nan",
        "evicted_keys": 5,
        "slave0": {"lag": "inf", "ip": "10.0.0.5", "port": 6379},
    }
    case.settings = {"min-replicas-to-write": "2", "client-output-buffer-limit": "pubsub a"}
    told: list[Any] = []
    say = Say("step", told.append)
    for step in (check_clients, check_persistence, check_replication):
        await step(case, say)
    judge_memory(case.info, say, local=True)
    unknown = [one.found for one in told if one.found.startswith("could not be judged")]
    for figure in ("maxclients=x", "hard=a", "aof_enabled=1,2", "lag=inf", "used_memory=nan"):
        assert any(figure in each for each in unknown), figure
    others = " ".join(one.found for one in told if one.found not in unknown)
    assert "3 connections refused" in others
    assert "5 keys removed" in others
    assert "NOREPLICAS" in others
