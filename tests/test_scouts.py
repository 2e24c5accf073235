"""Scouts, whatever they are sent to: no connection is lost in a meeting of two events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from redisutils.pool import scouting
from redisutils.pool.scouting import Scouted

from .peers import turns, until


class Dialed:
    """What has been dialed."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


def scouted(*attempts: Callable[[], Awaitable[Dialed]]) -> Any:
    """One whose attempts, its scouts' included, are these in turn."""
    left = list(attempts)

    async def dial() -> Dialed:
        return await left.pop(0)()

    made: Any = Scouted(dial)  # type: ignore[arg-type]  # of connections it knows how to close them
    return made


async def hang() -> Dialed:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scouting, "SCOUT_AFTER", 0.0)


async def test_whoever_gives_up_as_a_scout_gets_through_leaves_no_connection() -> None:
    found = Dialed()

    async def through() -> Dialed:
        caller.cancel()
        return found

    caller = asyncio.create_task(scouted(hang, through).dial())
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert found.closed


async def test_a_scout_that_fails_as_nobody_expects_is_told_of_and_missed_by_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    arrived = asyncio.Event()
    own = Dialed()

    async def slow() -> Dialed:
        await arrived.wait()
        return own

    async def broken() -> Dialed:
        raise LookupError("what nobody expects")

    caller = asyncio.create_task(scouted(slow, broken).dial())
    await until(lambda: "looking whether the server can be reached failed" in caplog.text)
    assert "what nobody expects" in caplog.text
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    arrived.set()
    assert await caller is own
    await turns(3)
    assert not own.closed
