"""What held up the server lately. Commands themselves, which may hold data, are not shown."""

from __future__ import annotations

import time
from typing import Any, Final

from redisutils.cli.check.case import Case
from redisutils.cli.check.finding import Say
from redisutils.cli.check.units import count, span

__all__ = ["check_slowlog"]

RECENT: Final = 3600.0
"""Seconds."""
LONG: Final = 0.1
"""Seconds of one command that everybody notices: the server does one at a time."""


async def check_slowlog(case: Case, say: Say) -> None:
    """The step."""
    [answer, now] = await case.ask("SLOWLOG GET 128", "TIME")
    if not isinstance(answer, list):
        say.note("this user may not ask for the server's slow commands", "Grant `+slowlog|get`.")
        return
    clock = float(now[0]) if isinstance(now, (tuple, list)) else time.time()
    recent = [entry for entry in answer if clock - float(entry["start_time"]) < RECENT]
    threshold = int(case.settings.get("slowlog-log-slower-than", 10_000)) / 1e6
    if threshold < 0:
        say.note("the server keeps no slow log", "`CONFIG SET slowlog-log-slower-than 10000`.")
        return
    if not recent:
        say.ok(f"no command took longer than {span(threshold)} in the last hour", count=0)
        return
    longest = max(recent, key=lambda entry: int(entry["duration"]))
    seconds = int(longest["duration"]) / 1e6
    told = (
        f"{count(len(recent), 'command')} took longer than {span(threshold)} in the last hour; the "
        f"longest, {_name(longest)}, {span(seconds)}"
    )
    remedy = (
        "Each held up everybody. `redis-cli SLOWLOG GET` shows them: mostly KEYS, big ranges, long "
        "scripts, or huge values."
    )
    facts = {"count": len(recent), "longest": seconds, "command": _name(longest)}
    if seconds >= LONG:
        say.warning(told, remedy, **facts)
    else:
        say.note(told, remedy, **facts)


def _name(entry: dict[str, Any]) -> str:
    """The command's name alone."""
    command = entry["command"]
    text = command.decode("utf-8", "replace") if isinstance(command, bytes) else str(command)
    word = text.split(maxsplit=1)[0] if text.split() else "?"
    return word.upper() if word.isalpha() and len(word) <= 20 else "a command"
