"""What held up the server lately. Commands themselves, which may hold data, are not shown."""

from __future__ import annotations

import time
from typing import Any, Final

from redis.exceptions import ResponseError

from redisutils.cli.check.case import Case, cannot
from redisutils.cli.check.figures import judgement, whole
from redisutils.cli.check.finding import Say
from redisutils.cli.check.units import count, span
from redisutils.commands import lookup

__all__ = ["check_slowlog"]

KEPT: Final = 128
"""Entries that are asked for, which is how many servers keep by default."""
RECENT: Final = 3600.0
"""Seconds."""
LONG: Final = 0.1
"""Seconds of one command that everybody notices: the server does one at a time."""


async def check_slowlog(case: Case, say: Say) -> None:
    """The step."""
    assert case.pool is not None
    # Not decoded: the arguments may be any bytes. By its parts, and so as the server has it.
    [entries] = await case.ask(("SLOWLOG", "GET", str(KEPT)), client=case.pool.client)
    if isinstance(entries, ResponseError):
        told = f"{cannot(entries)} ask for the server's slow commands"
        say.note(told, "Grant `+slowlog|get`.")
        return
    with judgement(say):
        await _judge(case, entries, say)


async def _judge(case: Case, entries: list[Any], say: Say) -> None:
    threshold = whole(case.settings, "slowlog-log-slower-than", 10_000) / 1e6
    if threshold < 0:
        say.note("the server keeps no slow log", "`CONFIG SET slowlog-log-slower-than 10000`.")
        return
    [now] = await case.ask(("TIME",))
    clock = float(now[0]) if isinstance(now, (tuple, list)) else time.time()
    recent = [
        (duration / 1e6, _name(words))
        for _, at, duration, words, *_ in entries
        if clock - at < RECENT
    ]
    if not recent:
        say.ok(f"no command took longer than {span(threshold)} in the last hour", count=0)
        return
    seconds, name = max(recent)
    many = f"{len(recent)}+ commands" if len(recent) == KEPT else count(len(recent), "command")
    told = (
        f"{many} took longer than {span(threshold)} in the last hour; the longest, {name}, "
        f"{span(seconds)}"
    )
    remedy = (
        "Each held up everybody. `redis-cli SLOWLOG GET` shows them: mostly KEYS, big ranges, long "
        "scripts, or huge values."
    )
    facts = {"count": len(recent), "longest": seconds, "command": name}
    if seconds >= LONG:
        say.warning(told, remedy, **facts)
    else:
        say.note(told, remedy, **facts)


def _name(words: list[bytes]) -> str:
    """Of the command alone, if it is one: the rest may be data."""
    command = lookup(tuple(words))
    return command.name if command.known else "a command"
