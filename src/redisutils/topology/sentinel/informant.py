"""One sentinel: asked, and listened to, on one connection (in RESP2 on two)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from contextvars import Context
from dataclasses import replace
from time import monotonic
from typing import Any, Final

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from redisutils.address import Address, AddressMap
from redisutils.connection.dial import dial
from redisutils.connection.options import ConnectOptions, Dialect
from redisutils.connection.owner import NOBODY, Owner
from redisutils.connection.packing import OwnPayload, pack, pack_many
from redisutils.connection.protocol import Connection
from redisutils.connection.reply import Reply
from redisutils.connection.words import cut
from redisutils.errors import (
    CommandTimeout,
    ConnectFailed,
    ConnectionLost,
    ProtocolError,
    RedisUtilsError,
)
from redisutils.metrics.counters import PoolMetrics
from redisutils.topology.sentinel.answers import Answer, read

__all__ = ["ABORTED", "PROMOTING", "SWITCHED", "Informant", "concerns"]

PATIENCE: Final = 1.0
"""Seconds for an answer: a sentinel has little to do."""

CONNECT_WITHIN: Final = 3.0
"""Seconds to connect to one, or ``ConnectOptions.timeout`` if that is less."""

SWITCHED: Final = "+switch-master"
"""The primary is another one: its name, the old host and port, the new host and port."""

PROMOTING: Final = "+failover-state-send-slaveof-noone"
"""A replica is about to be made the primary, within a tenth of a second. What the old one is told
from then on may be lost, although it goes on acknowledging until it is demoted."""

ABORTED: Final = (
    "-failover-abort-no-good-slave",
    "-failover-abort-not-elected",
    "-failover-abort-slave-timeout",
    "-failover-abort-master-is-back",
)

_CHANNELS: Final = (
    SWITCHED,
    PROMOTING,
    *ABORTED,
    "+promoted-slave",
    "+config-update-from",
    "+failover-end",
    "+sentinel",
    "+slave",
    "+sdown",
    "-sdown",
    "+odown",
    "-odown",
)

_SUBSCRIBE: Final = pack(("SUBSCRIBE", *_CHANNELS))


class Informant:
    """See the module's docstring. Belongs to the event loop that runs when it is made.

    Args:
        options: how to connect.
        master: the name of the primary.
        via: how announced addresses are to be reached.
        hear: called with this, a channel and the words of its message; with no channel when its
            connection is lost.
        identity: its run id, if another sentinel told of it.
    """

    def __init__(
        self,
        options: ConnectOptions,
        master: str,
        via: AddressMap,
        hear: Callable[[Informant, str, list[str]], None],
        identity: str = "",
    ) -> None:
        self.options = replace(
            options,
            name="sentinel",
            settings="REDIS_SENTINEL",
            database=0,
            timeout=min(options.timeout, CONNECT_WITHIN),
            dialect=Dialect(),
        )
        self.address = Address(options.host, options.port)
        self.identity = identity
        self.learnt = bool(identity)
        """Whether another one told of it."""
        self.answer: Answer | None = None
        """What it said when it was last asked; None if it did not answer."""
        self.asked = 0.0
        """When it was asked for that (``time.monotonic``)."""
        self.trouble: str | None = None
        """Why it did not."""
        self.silent = False
        """Whether it has been told that it does not answer."""
        self.fatal = False
        """Whether it will not, until somebody mends something."""
        self.distrusted_until = 0.0
        """Until when its word alone holds nobody back (``time.monotonic``)."""
        self._master = master
        self._via = via
        self._hear = hear
        self._connection: Connection | None = None
        self._ear: Connection | None = None
        self._asking: asyncio.Task[Answer] | None = None
        questions = [
            ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", master),
            ("SENTINEL", "MASTER", master),
            ("SENTINEL", "REPLICAS", master),
            ("SENTINEL", "SENTINELS", master),
            ("SENTINEL", "MYID"),
        ]
        self._questions = OwnPayload(pack_many(questions))
        self._brief = OwnPayload(pack_many(questions[:2]))

    def __repr__(self) -> str:
        return f"<Informant {self.options.peer}: {self.trouble or self.answer}>"

    @property
    def socket(self) -> Address | None:
        """Where its connection leads to, in figures."""
        place = None if self._connection is None else self._connection.address
        return Address(*place[:2]) if isinstance(place, tuple) else None

    def ask(self, briefly: bool = False) -> asyncio.Task[Answer]:
        """Ask, or join who is asking. What comes of it stands in ``answer`` or ``trouble``, too.

        Args:
            briefly: ask for the primary alone as long as that is the same. All programs ask at the
                same time then, ten times a second, and a sentinel has one thread.

        The task raises:
            ConnectFailed, ConnectionLost, CommandTimeout: there is no answer, as the message says.
        """
        if self._asking is None or self._asking.done():
            # Nobody's context: others may wait for it as well, and it goes on without them.
            loop = asyncio.get_running_loop()
            self._asking = loop.create_task(self._ask(briefly), context=Context())
            self._asking.add_done_callback(_retrieve)
        return self._asking

    async def _ask(self, briefly: bool) -> Answer:
        began = monotonic()
        try:
            self.answer = await self._answered(briefly)
        except (RedisUtilsError, RedisError) as error:
            self.answer = None
            self.trouble = self._why(error)
            self.fatal = isinstance(error, ConnectFailed) and error.fatal
            raise
        self.asked = began
        self.trouble = None
        self.fatal = False
        self.identity = self.answer.identity
        return self.answer

    def _why(self, error: RedisUtilsError | RedisError) -> str:
        if isinstance(error, CommandTimeout):
            return f"{self.options.peer} does not answer within {PATIENCE:g} s"
        return error.message if isinstance(error, RedisUtilsError) else cut(str(error))

    async def _answered(self, briefly: bool) -> Answer:
        connection = await self._connected()
        last = self.answer
        if briefly and last is not None and last.address is not None:
            where, state = await self._put(connection, self._brief, 2)
            here = self.options.peer
            now = read(where, state, [], [], self.identity, here=here, via=self._via)
            if (now.address, now.epoch) == (last.address, last.epoch):
                return replace(now, replicas=last.replicas, sentinels=last.sentinels)
        told = await self._put(connection, self._questions, 5)
        return read(*told, here=self.options.peer, via=self._via)

    async def _put(self, connection: Connection, questions: bytes, count: int) -> list[Any]:
        try:
            told: list[Any] = await connection.submit_many(questions, count, True, PATIENCE)
        except RedisUtilsError:
            self.close()
            raise
        if isinstance(told[0], Exception):
            raise self._refused(told[0])
        return told

    async def _connected(self) -> Connection:
        """The connection for questions; and both, if need be, are opened and made to listen."""
        if self._connection is None or self._connection.closed:
            self._connection = await self._open()
        connection = self._connection
        if self._ear is None or self._ear.closed:
            # With RESP2 a connection that listens can be asked nothing.
            same = connection.protocol_version == 3
            ear = connection if same else await self._open()
            with ExitStack() as undo:  # what has not subscribed can be asked nothing, either
                undo.callback(ear.close)
                try:
                    async with asyncio.timeout(PATIENCE):
                        await _Listening(ear, self._heard, self._refused).begun
                except TimeoutError:
                    raise ConnectFailed(
                        f"{self.options.peer} did not answer SUBSCRIBE within {PATIENCE:g} s"
                    ) from None
                undo.pop_all()
            self._ear = ear
        return connection

    async def _open(self) -> Connection:
        connection = await dial(self.options, PoolMetrics())
        mode = connection.server.get("mode")
        if mode is not None and mode != "sentinel":
            connection.close()
            raise self._no_sentinel(f"it is a server, in mode {mode}")
        return connection

    def _heard(self, channel: str, text: str) -> None:
        self._hear(self, channel, text.split(" "))

    def _refused(self, error: Exception) -> ConnectFailed:
        told = cut(str(error))
        peer = self.options.peer
        if "unknown command" in told.lower():
            return self._no_sentinel("it does not know the command SENTINEL")
        if isinstance(error, NoPermissionError):
            return ConnectFailed(
                f"{peer}: its user may not do what asking it takes: {told}. Grant +sentinel "
                "+subscribe and all channels (allchannels), or change REDIS_SENTINEL_USERNAME",
                fatal=True,
            )
        return ConnectFailed(f"{peer} refuses to say where {self._master} is: {told}")

    def _no_sentinel(self, why: str) -> ConnectFailed:
        return ConnectFailed(
            f"{self.options.peer} is no sentinel: {why}. REDIS_NODES names the sentinels, which "
            "listen on port 26379 as a rule, and not the servers that they watch",
            fatal=True,
        )

    def close(self) -> None:
        """Hang up. The next question connects again."""
        for connection in (self._connection, self._ear):
            if connection is not None:
                connection.owner = NOBODY  # who hangs up need not be told
                connection.close()
        self._connection = self._ear = None

    def abandon(self) -> None:
        """Ask no more, and hang up."""
        if self._asking is not None:
            self._asking.cancel()
        self.close()

    async def aclose(self) -> None:
        """As :meth:`abandon`, and wait until nothing is left of it."""
        self.abandon()
        if self._asking is not None:
            await asyncio.wait([self._asking])
        self.close()


def concerns(words: list[str], master: str) -> bool:
    """Whether a message is about this primary or what belongs to it: ``master NAME IP PORT``, or
    ``KIND NAME IP PORT @ MASTER IP PORT``."""
    if "@" in words[:-1]:
        return words[words.index("@") + 1] == master
    return master in words[:2]


class _Listening(Owner[Connection]):
    """Owns a connection that has subscribed."""

    name = "sentinel"
    hears_unasked = True

    def __init__(
        self,
        connection: Connection,
        heard: Callable[[str, str], None],
        refused: Callable[[Exception], ConnectFailed],
    ) -> None:
        self._heard = heard
        self._refused = refused
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when it has subscribed to the last channel: nothing may be asked before."""
        self._missing = len(_CHANNELS)
        connection.owner = self
        connection.decode_pushes = True
        connection.write(_SUBSCRIBE)

    def on_push(self, connection: Connection, message: Any) -> None:
        self._read(connection, message)

    def on_unsolicited(self, connection: Connection, value: Any) -> None:
        if isinstance(value, ResponseError):
            if not self.begun.done():
                self.begun.set_exception(self._refused(value))
        else:
            self._read(connection, value)

    def _read(self, connection: Connection, message: Any) -> None:
        match message:
            case ["subscribe", str(), int()]:
                self._missing -= 1
                if not self._missing and not self.begun.done():
                    self.begun.set_result(None)
            case ["message", str(channel), str(text)]:
                self._heard(channel, text)
            case _:
                connection.lose(ProtocolError(f"{connection.peer} sent {cut(repr(message))}"))

    def on_lost(
        self,
        connection: Connection,
        error: ConnectionLost,
        unanswered: Sequence[Reply],
        unsent: int,
    ) -> None:
        super().on_lost(connection, error, unanswered, unsent)
        if not self.begun.done():
            self.begun.set_exception(ConnectFailed(error.message))
        else:
            self._heard("", error.message)


def _retrieve(task: asyncio.Task[Answer]) -> None:
    """There may be nobody left who wants to know."""
    if not task.cancelled():
        task.exception()
