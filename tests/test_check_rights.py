"""``redisutils check`` and the server's ACL LOG: what it may do is asked, not tried."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from redisutils.testing import EmbeddedServer

from .checkup import ONE_LOOP, PASSWORD, Checked, at, checked
from .surroundings import clear


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clear(monkeypatch, tmp_path)


@contextmanager
def poor(
    patch: pytest.MonkeyPatch, server: EmbeddedServer, admin: Any, *rights: str
) -> Iterator[Any]:
    """A user with these rights is who we are, and the log is empty."""
    user = ("ACL", "SETUSER", "poor", "reset", "on", f">{PASSWORD}", *rights)
    admin.execute_command(*user)
    admin.acl_log_reset()
    at(patch, server, username="poor", password=PASSWORD)
    try:
        yield
    finally:
        admin.acl_deluser("poor")


def logged(admin: Any) -> list[str]:
    """What was refused, oldest first."""
    return [entry["object"] for entry in reversed(admin.acl_log(128))]


def refused(found: Checked) -> dict[str, list[str]]:
    notes = [one for one in found.all("rights", "note") if "refused" in one.facts]
    return {what: names for one in notes for what, names in one.facts["refused"].items()}


@ONE_LOOP
async def test_who_may_ask_what_he_may_leaves_no_entry(
    clean_server: EmbeddedServer, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with poor(monkeypatch, clean_server, admin, "~orders:*", "+@read", "+acl|dryrun"):
        found = await checked(key="orders:1")
        assert logged(admin) == []
    assert found.all("login", "ok")[0].facts["user"] == "poor"
    [error] = found.all("rights", "error")
    assert error.remedy == "`ACL SETUSER poor +ping`"
    assert "SET" in refused(found)["writing"]
    [latency] = [one for one in found.report.findings if "pings" in one.facts]
    assert "HELLOs: half within" in latency.found


@ONE_LOOP
async def test_who_may_not_ask_but_run_scripts_leaves_one(
    clean_server: EmbeddedServer, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with poor(monkeypatch, clean_server, admin, "~orders:*", "&*", "+@all", "-@dangerous"):
        found = await checked(key="orders:1")
        assert logged(admin) == ["acl|dryrun"]
        assert refused(found) == {}
        [warning] = found.all("rights", "warning")
        assert warning.remedy == "`ACL SETUSER poor +client|unblock`"
        assert "this user may not ask INFO" in found.shown
        assert "PINGs: half within" in found.shown
        assert found.all("clock", "ok")
        there = await checked(key="trades:1")
        assert {"GET", "SET", "EVAL"} <= {
            name for names in refused(there).values() for name in names
        }
        assert "on trades:1; whether for the command or the key is not said" in there.shown


@ONE_LOOP
async def test_who_may_do_neither_leaves_two(
    clean_server: EmbeddedServer, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with poor(monkeypatch, clean_server, admin, "~orders:*", "+@read", "+ping", "+info"):
        found = await checked(key="orders:1")
        assert logged(admin) == ["acl|dryrun", "eval"]
        assert found.errors == []
        # HELLO says so much to everybody.
        [server] = [one for one in found.all("server", "ok") if "version" in one.facts]
        assert server.facts["mode"] == "standalone"
        assert server.facts["role"] == "master"
        assert "HELLOs: half within" in found.shown
        why = "it cannot be told whether this user may ask INFO"
        assert found.report.skipped["memory"] == why
        assert "--try-all" in found.shown

        admin.acl_log_reset()
        thorough = await checked(key="orders:1", trying=True)
        assert set(logged(admin)) > {"acl|dryrun", "eval", "unwatch", "multi", "config|get"}
        assert thorough.report.skipped == {}
        [warning] = thorough.all("rights", "warning")
        assert "+unwatch" in (warning.remedy or "")
        assert "PINGs: half within" in thorough.shown
