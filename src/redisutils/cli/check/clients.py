"""Connections: room for ours, and what the server does to idle and slow ones."""

from __future__ import annotations

from math import inf
from typing import Any, Final

from redisutils.cli.check.case import Case
from redisutils.cli.check.figures import judgement, whole
from redisutils.cli.check.finding import Say
from redisutils.cli.check.units import count, size
from redisutils.config import RedisConfig

__all__ = ["check_clients"]

CROWDED: Final = 0.8
"""Of maxclients, from which on there is little room for more."""

_OURS: Final = 2
"""Connections of this check itself."""


async def check_clients(case: Case, say: Say) -> None:
    """The step."""
    info, settings = case.info, case.settings
    with judgement(say):
        _room(case, say)
    with judgement(say):
        _rejected(whole(info, "rejected_connections"), say)
    with judgement(say):
        _idle(case.config, whole(settings, "timeout"), say)
    if settings.get("tcp-keepalive") == "0":
        say.note(
            "the server sends no TCP keepalives (tcp-keepalive 0): it keeps connections of clients "
            "that have vanished, and firewalls forget idle ones",
            "`CONFIG SET tcp-keepalive 300`; this library sends its own after 30 s.",
        )
    with judgement(say):
        _buffers(settings.get("client-output-buffer-limit", ""), say)


def _rejected(rejected: int, say: Say) -> None:
    if rejected:
        say.warning(
            f"{count(rejected, 'connection')} refused since the server's start, since it had "
            "maxclients",
            "Raise it (`CONFIG SET maxclients N`), or find who opens so many: `CLIENT LIST`.",
            rejected_connections=rejected,
        )


def _room(case: Case, say: Say) -> None:
    info = case.info
    most = whole(info, "maxclients") or whole(case.settings, "maxclients")
    now = whole(info, "connected_clients")
    ours = case.config.pool_max_size * case.processes
    facts: dict[str, Any] = {
        "maxclients": most,
        "connected": now,
        "pool_max_size": case.config.pool_max_size,
        "processes": case.processes,
    }
    pool = f"REDIS_POOL_MAX_SIZE={case.config.pool_max_size}"
    if case.processes > 1:
        pool += f" in {case.processes} processes ({ours} connections)"
    if not most:
        say.note(f"{count(now, 'client')} connected; how many it allows is not known", None)
        return
    room = most - max(0, now - _OURS)
    told = f"{count(now, 'client')} of {most:,} connected"
    remedy = (
        "Raise it on the server (`CONFIG SET maxclients N`, and its `ulimit -n`), or lower "
        "REDIS_POOL_MAX_SIZE: one connection carries many tasks' commands."
    )
    if ours > room:
        say.error(
            f"{told}: {pool} may want {ours - room:,} more than there is room for",
            remedy,
            **facts,
        )
    elif most - room + ours > CROWDED * most:
        say.warning(f"{told}: {pool} may nearly fill it", remedy, **facts)
    else:
        say.ok(f"{told}: there is room for {pool}", **facts)


def _idle(config: RedisConfig, timeout: int, say: Say) -> None:
    """The server closes connections on which nothing was asked for ``timeout`` seconds."""
    if not timeout:
        return
    ours = config.pool_max_idle_seconds or inf
    pings = config.health_check_interval or inf
    if min(ours, pings) < timeout:
        say.ok(f"the server closes idle connections after {timeout} s; ours are used before")
        return
    say.warning(
        f"the server closes connections that are idle for {timeout} s (timeout), and ours may be: "
        "such a one is noticed as lost when it is needed",
        f"Set REDIS_HEALTH_CHECK_INTERVAL or REDIS_POOL_MAX_IDLE_SECONDS below {timeout}, or "
        "`CONFIG SET timeout 0`.",
        timeout=timeout,
    )


def _buffers(limits: str, say: Say) -> None:
    """``normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60``."""
    words = limits.split()
    if "pubsub" not in words:
        return
    names = ("hard", "soft", "seconds")
    limit = dict(zip(names, [*words[words.index("pubsub") + 1 :], None, None, None], strict=False))
    hard, soft, seconds = (whole(limit, name) for name in names)
    if not hard and not soft:
        say.note(
            "subscribers may fall behind without a limit, in the server's memory "
            "(client-output-buffer-limit pubsub 0 0 0)",
            "`CONFIG SET client-output-buffer-limit 'pubsub 32mb 8mb 60'`.",
        )
    else:
        say.ok(
            f"a subscriber who falls {size(hard)} behind, or {size(soft)} for {seconds} s, is "
            "closed by the server",
            hard=hard,
            soft=soft,
            seconds=seconds,
        )
