"""The server's refusals: hiredis makes them as it parses, and whose they are is found out after."""

from __future__ import annotations

import re
from typing import Any, Final

from redis._parsers.base import BaseParser
from redis.exceptions import ExecAbortError, ResponseError

from redisutils.connection.naming import OTHER, command_name
from redisutils.connection.reply import Batch, Reply
from redisutils.errors import Outcome, with_code, with_outcome
from redisutils.metrics.counters import PoolMetrics
from redisutils.retry import TRANSIENT

__all__ = ["ErrorReplies", "refusal_of"]

_CODE: Final = "-?[A-Z][A-Z0-9_]{1,31}"
"""Compiled with the first error reply, which takes a millisecond."""

_OF_EXEC: Final = frozenset({"EXECABORT", "ERR"})
"""How EXEC answers when its commands, or MULTI itself, were refused."""


_DOWN: Final = (
    "(CLUSTERDOWN, says {peer}. The cluster serves again when most primaries hear each "
    "other and each slot has an owner that lives: pool.health() and `redis-cli --cluster check "
    "HOST:PORT` tell what is missing)"
)
_OF_A_CLUSTER: Final = {
    "CLUSTERDOWN": _DOWN,
    "MOVED": "(this server is one node of a cluster, and another one owns the slot: set "
    "REDIS_MODE=cluster; for a connection of your own, pool.get(key=…))",
    "ASK": "(the slot is being moved from this node of a cluster to another: set "
    "REDIS_MODE=cluster)",
}
"""What is added for the one who is told: those who follow redirections tell nobody."""

_WITHIN_A_CLUSTER: Final = {
    "CLUSTERDOWN": _DOWN,
    "MOVED": "(another node owns the slot. pool.client follows this, and fails only if the nodes "
    "go on disagreeing: compare what each answers to CLUSTER SHARDS. A connection of your own does "
    "not if it holds state: begin with pool.get(key=…). Nor does one that was asked for by node=: "
    "leave that out, or, to read from a replica, send it READONLY first)",
    "ASK": "(the slot is being moved from this node to another. pool.client follows this; a "
    "connection of your own does not if it holds state or was asked for by node=)",
}
"""The same where it is known that this is a cluster."""


class ErrorReplies:
    """Those that have been parsed and not yet been told to anybody.

    Args:
        peer: whose they are, for messages.
    """

    __slots__ = ("_peer", "advice", "parsed")

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self.advice = _OF_A_CLUSTER
        self.parsed: list[tuple[Exception, str]] = []
        """Each with its code, the first word. The same list for ever."""

    def expect_redirections(self) -> None:
        """The server is known to be one of a cluster."""
        self.advice = _WITHIN_A_CLUSTER

    def parse(self, message: str) -> Exception:
        """Hiredis' callback for each error reply, nested ones included."""
        try:
            error: Exception = BaseParser.parse_error(message)  # type: ignore[no-untyped-call]  # redis-py's
        except ValueError:  # MOVED or ASK without an address
            error = ResponseError(message)
        code = message.split(" ", 1)[0]
        if code in self.advice:
            told = str(error)  # of which redis-py has cut off the code
            told = told if told.startswith(code) else f"{code} {told}"
            error.args = (f"{told} {self.advice[code].replace('{peer}', self._peer)}",)
        if not re.fullmatch(_CODE, code):  # a script may answer anything: it shall not make names
            code = OTHER
        with_outcome(with_code(error, code), Outcome.REJECTED)
        self.parsed.append((error, code))
        return error

    def disown(self, message: object) -> None:
        """Forget those within a push message: they say nothing of the reply that is due."""
        within: list[Any] = [message]
        for each in within:  # it grows meanwhile
            if isinstance(each, list):
                within += each
            elif isinstance(each, dict):
                within += (*each.keys(), *each.values())
        disowned = set(map(id, within))
        self.parsed[:] = [one for one in self.parsed if id(one[0]) not in disowned]

    def take(self, reply: Reply, metrics: PoolMetrics) -> list[tuple[Exception, str]]:
        """They are in the answer to ``reply``: count them, and forget them here."""
        taken = self.parsed.copy()
        self.parsed.clear()
        name = command_name(reply.payload, isinstance(reply, Batch))
        for error, code in taken:
            metrics.errors[type(error).__name__] += 1
            metrics.measures.refused(name, code)
            if reply.fate is Outcome.UNKNOWN:  # refused now, but it may have run when it was lost
                with_outcome(error, reply.fate)
        return taken


def refusal_of(value: list[Any], codes: list[str]) -> str | None:
    """What refused a batch as a whole, as one code; None if it was not.

    A transaction of which one command was refused is refused by its EXEC as a whole. A command
    whose answer does not decode was executed.

    Args:
        value: the answers.
        codes: of the error replies among them, in their order.
    """
    whole = isinstance(value[-1], ExecAbortError) or all(
        isinstance(answer, BaseException) and not isinstance(answer, UnicodeDecodeError)
        for answer in value
    )
    if not whole:
        return None
    if len(codes) > 1 and codes[-1] in _OF_EXEC:
        codes = codes[:-1]  # it follows from the others
    # A single refusal that is not for the moment forbids to repeat the whole.
    return next((code for code in codes if code not in TRANSIENT), codes[0])
