"""Commands without keys in a cluster: which nodes they are for, and what the answers make together.

The servers' own request and response policies decide, where they have any (see
redis.io/docs/latest/develop/reference/command-tips), and ``scripts/command_columns.py`` where they
have none. The rule for the rest: what would be a lie if it were merged, such as INFO, TIME or
CLIENT LIST of three servers in one text, is asked of one node, and so is what names something of
one node, such as CLIENT KILL. Who means a certain node says so: ``target_nodes=`` of redis-py's
cluster client, or ``pool.get(node=…)``.

================================================== =========== ===================================
commands                                           go to       their answer
================================================== =========== ===================================
PING, FLUSHALL, FLUSHDB, MEMORY PURGE, SAVE,       primaries   the first, if all have succeeded
BGSAVE, BGREWRITEAOF, FUNCTION LOAD, DELETE,
FLUSH, RESTORE
DBSIZE                                             primaries   the sum
KEYS, CLUSTER SLOT-STATS                           primaries   one after the other
RANDOMKEY                                          primaries   of one of those that have any
LASTSAVE                                           primaries   the oldest
SCRIPT EXISTS                                      primaries   of each script: whether all have it
WAIT, WAITAOF                                      primaries   the least
SCRIPT KILL, FUNCTION KILL                         all nodes   the first that succeeded
SCRIPT LOAD, FLUSH; CONFIG SET, REWRITE,           all nodes   the first, if all have succeeded
RESETSTAT; ACL SETUSER, DELUSER, LOAD, SAVE;
SLOWLOG RESET; CLIENT SETNAME
LATENCY RESET, SLOWLOG LEN, PUBSUB NUMPAT          all nodes   the sum
SLOWLOG GET                                        all nodes   all entries, the newest first
PUBSUB CHANNELS, SHARDCHANNELS                     all nodes   each channel once
PUBSUB NUMSUB, SHARDNUMSUB                         all nodes   of each channel: the sum
everything else: INFO, TIME, ECHO, PUBLISH,        any node    its own
CONFIG GET, CLIENT, CLUSTER, COMMAND, MODULE,
LATENCY, MEMORY STATS, FUNCTION LIST, FT.SEARCH
================================================== =========== ===================================

Of PUBSUB NUMPAT the sum is what the servers can tell: a pattern that two nodes' subscribers have is
counted twice. PUBLISH answers the number of those who listen at the node asked, as everywhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Sequence
from enum import Enum
from typing import Any, Final

from redisutils.commands import Command, may_write
from redisutils.errors import code_of
from redisutils.topology.cluster.partly import failure

__all__ = ["Where", "gather", "where"]


class Where(Enum):
    """Which nodes a command without keys is for."""

    ANY = "any"
    """One, no matter which."""

    PRIMARIES = "primaries"
    """Each primary."""

    NODES = "nodes"
    """Each node, replicas included."""


def where(command: Command) -> Where:
    """Which nodes this command is for, if it has no keys."""
    if command.response == "special" and command.name not in _MERGED:
        return Where.ANY
    if command.request == "all_nodes":
        return Where.NODES
    if command.request == "all_shards":
        return Where.PRIMARIES
    return Where.ANY


def gather(
    command: Command,
    words: Sequence[bytes],
    answers: Sequence[tuple[str, Any]],
    replicas: Collection[str] = (),
) -> Any:
    """The one answer that several nodes' answers make.

    Args:
        command: What ``lookup(words)`` answered.
        words: The call.
        answers: The nodes asked, one at least, and each one's raw reply, or the exception that is
            its answer.
        replicas: Those of them that are replicas. SCRIPT LOAD succeeds although a replica could
            not be reached: it has to be ready for EVALSHA to be refused with NOSCRIPT anyway, as
            it is by every server that was started again.

    Raises:
        Exception: what one node answered, if that cannot be made good by another; see
            :func:`~redisutils.topology.cluster.partly.failure` for what it says of the others.
    """
    if command.name == "SCRIPT LOAD":
        answers = _without_unreachable(answers, replicas)
    values = [value for _, value in answers if not isinstance(value, Exception)]
    if len(values) < len(answers):
        if values and command.response == "one_succeeded":
            return values[0]
        if command.name == "RANDOMKEY" and any(value is not None for value in values):
            return _random_key(values)
        if command.response == "one_succeeded":
            answers = sorted(answers, key=_says_little)
        raise failure(command.name, answers, may_write(words))
    if len(values) == 1:
        return values[0]
    if merge := _MERGED.get(command.name):
        return merge(values)
    if aggregate := _AGGREGATES.get(command.response):
        if isinstance(values[0], list):
            return [aggregate(column) for column in zip(*values, strict=True)]
        return aggregate(values)
    if not command.response and all(isinstance(value, list) for value in values):
        return [item for value in values for item in value]
    return values[0]


def _without_unreachable(
    answers: Sequence[tuple[str, Any]], replicas: Collection[str]
) -> Sequence[tuple[str, Any]]:
    # A server's refusal has a code.
    remaining = [
        (name, value)
        for name, value in answers
        if name not in replicas or not isinstance(value, Exception) or code_of(value)
    ]
    return remaining or answers


def _says_little(answer: tuple[str, Any]) -> bool:
    """Of nodes that were to stop a script: that none ran there. Others say more."""
    return code_of(answer[1]) == "NOTBUSY"


def _random_key(values: Sequence[Any]) -> Any:
    found = [value for value in values if value is not None]
    return random.choice(found) if found else None


def _each_once(values: Sequence[Iterable[Any]]) -> list[Any]:
    return list(dict.fromkeys(item for value in values for item in value))


def _sum_by_name(values: Sequence[Any]) -> Any:
    """Of flat lists of names and numbers, or of maps."""
    totals: dict[Any, int] = {}
    for value in values:
        pairs = value.items() if isinstance(value, dict) else zip(*[iter(value)] * 2, strict=True)
        for name, number in pairs:
            totals[name] = totals.get(name, 0) + number
    if isinstance(values[0], dict):
        return totals
    return [word for pair in totals.items() for word in pair]


def _newest_first(values: Sequence[Sequence[Any]]) -> list[Any]:
    """Entries are identifier, moment, and so on (redis.io/commands/slowlog-get)."""
    entries = [entry for value in values for entry in value]
    return sorted(entries, key=lambda entry: int(entry[1]), reverse=True)


_MERGED: Final[dict[str, Callable[[Sequence[Any]], Any]]] = {
    "COMMANDLOG GET": _newest_first,
    "PUBSUB CHANNELS": _each_once,
    "PUBSUB NUMSUB": _sum_by_name,
    "PUBSUB SHARDCHANNELS": _each_once,
    "PUBSUB SHARDNUMSUB": _sum_by_name,
    "RANDOMKEY": _random_key,
    "SLOWLOG GET": _newest_first,
}

_AGGREGATES: Final[dict[str, Callable[[Sequence[Any]], Any]]] = {
    "agg_logical_and": min,
    "agg_logical_or": max,
    "agg_min": min,
    "agg_max": max,
    "agg_sum": sum,
}
