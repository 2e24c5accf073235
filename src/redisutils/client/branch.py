"""The subscriptions that stand at one node of a cluster, over one connection."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import groupby
from math import inf
from typing import Any, Final, NamedTuple, Protocol

from redis.exceptions import RedisError

from redisutils.client.vigil import Vigil
from redisutils.connection.owner import Owner
from redisutils.connection.packing import pack, pack_many
from redisutils.connection.protocol import Connection
from redisutils.connection.reply import Reply
from redisutils.errors import ConnectionLost
from redisutils.pool.pool import Lease
from redisutils.topology.cluster.keys import slot_of
from redisutils.topology.cluster.node import Node

__all__ = ["Branch", "Subscription", "is_event", "may_be_event"]

_EVENTS: Final = (b"__keyspace@", b"__keyevent@")
"""How the channels begin on which a server tells what happens to its own keys
(https://valkey.io/topics/notifications/). They are not told to the other nodes."""

_GLOB: Final = b"*?[\\"


class Subscription(NamedTuple):
    """What is subscribed to."""

    kind: str
    """``"subscribe"``, ``"psubscribe"`` or ``"ssubscribe"``."""
    name: bytes
    """A channel or a pattern."""

    @property
    def slot(self) -> int:
        """Of a shard channel: where it lives. Of others: any number, the same for all."""
        return slot_of(self.name) if self.kind == "ssubscribe" else -1


def is_event(channel: bytes) -> bool:
    """Whether a message of this channel tells what happened to a key of its node."""
    return channel.startswith(_EVENTS)


def may_be_event(wanted: Subscription) -> bool:
    """Whether such messages are meant: the channel is one of those; or the pattern, up to its first
    wildcard, may begin one, and has two characters at least. (So ``__key*`` does, and ``*``, for
    whose sake all messages would come from all nodes, does not.)"""
    if wanted.kind != "psubscribe":
        return wanted.kind == "subscribe" and is_event(wanted.name)
    end = next((at for at, byte in enumerate(wanted.name) if byte in _GLOB), len(wanted.name))
    head = wanted.name[:end]
    return len(head) > 1 and any(head.startswith(name) or name.startswith(head) for name in _EVENTS)


class Hearing(Protocol):
    """What hears what comes."""

    def heard(self, branch: Branch, value: Any, is_push: bool) -> None:
        """Something came."""

    def lost(self, branch: Branch) -> None:
        """The connection is gone."""


class Branch(Owner[Connection]):
    """See the module's docstring.

    Args:
        node: where.
        hearing: is told what comes.
        decode: whether strings are decoded.
        vigil: sees to it that the node lives.
    """

    name = "subscription"
    hears_unasked = True

    def __init__(self, node: Node, hearing: Hearing, decode: bool, vigil: Vigil) -> None:
        self.node = node
        self._hearing = hearing
        self._decode = decode
        self.vigil = vigil
        self.held: set[Subscription] = set()
        """What has been asked for and not withdrawn."""
        self.told: set[Subscription] = set()
        """Of these, what the node has confirmed since. Only what comes of them counts: before the
        confirmation it is left from when they were subscribed to here the last time."""
        self.error: RedisError | None = None
        """Why there is no connection."""
        self.failures = 0
        """How often in a row none could be made."""
        self._lease: Lease[Connection] | None = None
        self._owed: deque[tuple[bool, set[Subscription]]] = deque()

    def __repr__(self) -> str:
        state = "connected" if self.connection is not None else f"not connected ({self.error})"
        return f"<Branch {self.node.address}: {len(self.told)} of {len(self.held)}, {state}>"

    @property
    def connection(self) -> Connection | None:
        """The connection, if there is one."""
        lease = self._lease
        return None if lease is None or lease.item.closed else lease.item

    def begin(self, lease: Lease[Connection]) -> None:
        """There is a connection now. Nothing is subscribed to over it."""
        self.drop()
        self._lease = lease
        connection = lease.item
        # What this connection will be used for cannot be undone by recycling.
        connection.tainted = True
        connection.owner = self
        connection.decode_pushes = self._decode
        self.error, self.failures = None, 0
        self.vigil.begin()

    def drop(self) -> set[Subscription]:
        """Close the connection. Returns what was subscribed to."""
        lease, self._lease = self._lease, None
        held, self.held, self.told = self.held, set(), set()
        self._owed.clear()
        if lease is not None:
            lease.item.owner = Owner()
            lease.release(discard=True)
        return held

    def left(self) -> float:
        """Seconds until it is time to :meth:`look`."""
        connection = self.connection
        return inf if connection is None else self.vigil.left(connection)

    def look(self) -> None:
        """See to it that the node lives."""
        connection = self.connection
        if connection is not None:
            self.vigil.look(connection)

    # -- what is said --------------------------------------------------------------------

    def say(self, *args: Any) -> None:
        """Write a command whose answer is the reader's."""
        assert self.connection is not None
        self.connection.write(pack(args))

    def subscribe(self, wanted: Iterable[Subscription]) -> None:
        """Ask for these, with a command for each kind, and for each slot of shard channels."""
        self._ask(True, wanted)
        self.held.update(wanted)

    def unsubscribe(self, unwanted: Iterable[Subscription]) -> None:
        """Withdraw these. From now on their messages do not count."""
        self._ask(False, unwanted)
        self.held.difference_update(unwanted)
        self.told.difference_update(unwanted)

    def _ask(self, wanted: bool, which: Iterable[Subscription]) -> None:
        connection = self.connection
        assert connection is not None
        commands = []
        ordered = sorted(which, key=lambda one: (one.kind, one.slot))
        for (kind, _), group in groupby(ordered, key=lambda one: (one.kind, one.slot)):
            together = list(group)
            verb = kind if wanted else kind.replace("subscribe", "unsubscribe")
            commands.append((verb.upper(), *[one.name for one in together]))
            self._owed.append((wanted, set(together)))
        if commands:
            connection.write(pack_many(commands))

    # -- what is answered ----------------------------------------------------------------

    def confirmed(self, wanted: bool, one: Subscription) -> bool:
        """The node says that ``one`` is subscribed to, or (not ``wanted``) not any more. Returns
        whether it was asked to, and did not end it by itself."""
        for entry in self._owed:
            if entry[0] is wanted and one in entry[1]:
                entry[1].discard(one)
                if not entry[1]:
                    self._owed.remove(entry)
                break
        else:
            if not wanted and one in self.held:
                self.held.discard(one)
                self.told.discard(one)
                return False
        if wanted and one in self.held and not any(one in entry[1] for entry in self._owed):
            self.told.add(one)
        return True

    def refused(self, slot: int | None) -> tuple[bool, set[Subscription]] | None:
        """The node has refused what it was told to do.

        Args:
            slot: that it was about, if the node says so. (To withdraw what a node has ended by
                itself may be refused, too, and is not owed any more by then.)

        Returns whether that was to subscribe, and to what; None if it was something else.
        """
        for entry in self._owed:
            if slot is None or any(one.slot == slot for one in entry[1]):
                self._owed.remove(entry)
                if entry[0]:
                    self.held -= entry[1]
                return entry
        return None

    # -- what the connection tells its owner -------------------------------------------------

    def on_push(self, connection: Connection, message: Any) -> None:
        self._hearing.heard(self, message, True)

    def on_unsolicited(self, connection: Connection, value: Any) -> None:
        self._hearing.heard(self, value, False)

    def on_unreadable(self, connection: Connection, error: UnicodeDecodeError) -> None:
        self._hearing.heard(self, error, False)

    def on_lost(
        self,
        connection: Connection,
        error: ConnectionLost,
        unanswered: Sequence[Reply],
        unsent: int,
    ) -> None:
        super().on_lost(connection, error, unanswered, unsent)
        self.error = error
        self._hearing.lost(self)
