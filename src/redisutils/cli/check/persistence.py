"""What outlives a restart."""

from __future__ import annotations

import time

from redisutils.cli.check.case import Case
from redisutils.cli.check.figures import judgement, number, whole
from redisutils.cli.check.finding import Say
from redisutils.cli.check.units import count, span

__all__ = ["check_persistence"]


async def check_persistence(case: Case, say: Say) -> None:
    """The step."""
    with judgement(say):
        _judge(case, say)


def _judge(case: Case, say: Say) -> None:
    info, settings = case.info, case.settings
    appends = bool(whole(info, "aof_enabled"))
    points = settings.get("save")
    failing = False
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        failing = True
        say.error(
            "the last snapshot failed (rdb_last_bgsave_status): with stop-writes-on-bgsave-error, "
            "the default, writes are refused with MISCONF",
            "See the server's log for the reason: mostly a full disk, a `dir` that it may not "
            "write to, or too little memory to fork (vm.overcommit_memory=1). Then `BGSAVE`.",
        )
    for name in ("aof_last_write_status", "aof_last_bgrewrite_status"):
        if appends and info.get(name, "ok") != "ok":
            failing = True
            say.error(
                f"the append-only file cannot be written ({name})",
                "See the server's log for the reason: mostly a full disk. Writes are refused with "
                "MISCONF until it can.",
                status=name,
            )
    if failing:
        return
    if appends:
        fsync = settings.get("appendfsync", "everysec")
        if fsync == "no":
            say.warning(
                "append-only file with appendfsync no: a crash of the machine loses what the "
                "kernel had not written yet, mostly 30 s",
                "`CONFIG SET appendfsync everysec` (or always, which each write then waits for).",
                appendfsync=fsync,
            )
        else:
            lost = {"always": "nothing", "everysec": "at most about a second"}.get(fsync, "little")
            say.ok(
                f"append-only file, appendfsync {fsync}: a crash loses {lost}", appendfsync=fsync
            )
    elif points:
        age = time.time() - number(info, "rdb_last_save_time", time.time())
        changes = whole(info, "rdb_changes_since_last_save")
        say.ok(
            f"snapshots (save {points}); the last is {span(max(age, 0))} old, and "
            f"{count(changes, 'change')} since would be lost in a crash",
            save=points,
            changes=changes,
        )
    elif points is None:
        say.note(
            "no append-only file; whether there are snapshots, this user may not ask",
            "Grant `+config|get`, or ask whoever runs the server.",
        )
    elif case.config.embedded:
        say.note("none: a private server keeps nothing")
    else:
        say.warning(
            "nothing is kept on disk: a restart of the server loses all data",
            "For data that must not go: `CONFIG SET appendonly yes`, then `CONFIG REWRITE`. For a "
            "mere cache it is right.",
        )
