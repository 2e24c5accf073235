"""What WAIT and WAITAOF on a connection that roams would tell of.

A server answers them for what was written over the very connection that asks
(https://valkey.io/commands/wait/). One that has been exchanged since would be told of no write, and
so at once that all replicas have everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redisutils.commands import lookup, may_write
from redisutils.commands.command import WAITING
from redisutils.commands.words import number
from redisutils.connection.protocol import Connection
from redisutils.errors import CrossSlot

__all__ = ["Written"]


class Written:
    """Where a caller has written since he waited last, and over which connections."""

    __slots__ = ("_over",)

    def __init__(self) -> None:
        self._over: dict[str, Connection] = {}

    def note(self, args: Sequence[Any], connection: Connection) -> None:
        """This command has been issued over ``connection``, and was not sent on elsewhere."""
        if lookup(args).name not in WAITING and may_write(args):
            self._over[connection.peer] = connection

    def check(self, args: Sequence[Any], connection: Connection) -> None:
        """Raise if this command would be answered for less than was written.

        Raises:
            CrossSlot
        """
        name = lookup(args).name
        if name not in WAITING or all(one is connection for one in self._over.values()):
            return
        places = " and ".join(self._over)
        raise CrossSlot(
            f"{name} is answered for what was written over one connection, and this one, now to "
            f"{connection.peer}, was exchanged since it wrote to {places}: write and wait on a "
            "connection for each slot, async with pool.get(key=…) as conn, and wait before going "
            "on to another key"
        )

    def answered(self, args: Sequence[Any], answer: Any) -> None:
        """So many have what was written. If those are as many replicas as were asked for, that is
        done."""
        name = lookup(args).name
        if name not in WAITING or isinstance(answer, Exception):
            return
        replicas = answer[1] if name == "WAITAOF" else answer
        wanted = number(args[2 if name == "WAITAOF" else 1])
        if wanted and replicas >= wanted:
            self._over.clear()

    def run(
        self, commands: Sequence[Sequence[Any]], answers: Sequence[Any], connection: Connection
    ) -> None:
        """These were executed one after the other: what comes after WAIT is not covered by it."""
        for args, answer in zip(commands, answers, strict=True):
            self.note(args, connection)
            self.answered(args, answer)
