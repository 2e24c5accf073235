"""Memory: how much there may be, what happens when it is full, and how near that is."""

from __future__ import annotations

from typing import Any, Final

from redisutils.cli.check.case import Case
from redisutils.cli.check.figures import judgement, whole
from redisutils.cli.check.finding import Say
from redisutils.cli.check.units import count, share, size

__all__ = ["check_memory", "judge_memory"]

FULL: Final = 0.95
"""Of maxmemory, from which on writes are about to be refused."""
NEARLY: Final = 0.8
"""Of maxmemory, from which on it is time to act."""
_HALF: Final = 0.5
"""Of the machine's memory that one server without a limit may have before it is dangerous: a
background save can need as much again."""
_FRAGMENTED: Final = 1.5
_MATTERS: Final = 100 << 20
"""Bytes below which fragmentation is of no interest."""


async def check_memory(case: Case, say: Say) -> None:
    """The step."""
    judge_memory(case.info, say, local=case.local)


def judge_memory(info: dict[str, Any], say: Say, *, local: bool) -> None:
    """By what INFO says of it.

    Args:
        info: the answer to INFO.
        say: told.
        local: whether the server is on this machine, perhaps a developer's.
    """
    with judgement(say):
        _judge_limit(info, say, local=local)
    with judgement(say):
        _removed(info, say)
    with judgement(say):
        _spread(whole(info, "used_memory"), whole(info, "used_memory_rss"), say)


def _judge_limit(info: dict[str, Any], say: Say, *, local: bool) -> None:
    used = whole(info, "used_memory")
    most = whole(info, "maxmemory")
    policy = str(info.get("maxmemory_policy", "noeviction"))
    facts = {"used_memory": used, "maxmemory": most, "policy": policy}
    if not most:
        machine = whole(info, "total_system_memory")
        _without_limit(used, whole(info, "used_memory_rss"), machine, facts, say, local=local)
    elif policy == "noeviction":
        _with_limit(used, most, facts, say)
    elif policy.startswith("allkeys"):
        say.warning(
            f"maxmemory-policy is {policy}: at {size(most)} the server removes whatever key it "
            f"likes, orders and sessions included ({size(used)} are used)",
            "For data that must not go: `CONFIG SET maxmemory-policy noeviction` (writes fail when "
            "it is full), or volatile-ttl (only keys with a TTL go). For a mere cache it is right.",
            **facts,
        )
    else:
        say.ok(
            f"{size(used)} of {size(most)} used ({share(used, most)}); when it is full, keys with "
            f"a TTL go ({policy})",
            **facts,
        )


def _without_limit(
    used: int, resident: int, machine: int, facts: dict[str, Any], say: Say, *, local: bool
) -> None:
    told = f"no limit (maxmemory 0): {size(used)} used"
    if machine:
        told += f" of the machine's {size(machine)}"
    remedy = (
        "`CONFIG SET maxmemory N` and the same in its configuration: about two thirds of the "
        "machine's memory. Without, the kernel kills the server when memory ends."
    )
    if local and not (machine and resident > _HALF * machine):
        say.note(told, remedy, **facts)
    else:
        say.warning(told, remedy, **facts)


def _with_limit(used: int, most: int, facts: dict[str, Any], say: Say) -> None:
    told = f"{size(used)} of {size(most)} used ({share(used, most)}), with noeviction"
    remedy = (
        "Raise it (`CONFIG SET maxmemory N`) if the machine has more, or remove data: `redis-cli "
        "--bigkeys` finds the largest keys."
    )
    if used >= FULL * most:
        say.error(f"{told}: writes are refused with OOM, or soon will be", remedy, **facts)
    elif used >= NEARLY * most:
        say.warning(f"{told}: when it is full, writes are refused with OOM", remedy, **facts)
    else:
        say.ok(told, **facts)


def _removed(info: dict[str, Any], say: Say) -> None:
    evicted = whole(info, "evicted_keys")
    if evicted:
        say.note(
            f"{count(evicted, 'key')} removed for want of memory since the server's start",
            "If they were missed: more memory, or shorter TTLs.",
            evicted_keys=evicted,
        )


def _spread(used: int, resident: int, say: Say) -> None:
    if resident > _FRAGMENTED * used and resident > _MATTERS:
        say.note(
            f"{size(resident)} of the machine's memory for {size(used)} of data: it is fragmented",
            "`CONFIG SET activedefrag yes`, or a restart (or failover) at a quiet hour.",
            used_memory_rss=resident,
        )
    elif used > _MATTERS and resident < used / 2:
        say.warning(
            f"of {size(used)} only {size(resident)} are in memory: the rest is swapped out, and "
            "reading it takes milliseconds",
            "Give the machine more memory, or the server a lower maxmemory, and switch swap off.",
            used_memory_rss=resident,
        )
