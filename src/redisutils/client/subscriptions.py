"""What one program listens to in a cluster, over a connection to each node that has some of it.

Where
-----
=====================================  ====================================================
subscribed to                          at
=====================================  ====================================================
channels, patterns                     the *home*: any node, since each message goes to all
channels and patterns of keyspace and  every primary, since each tells only of its own keys
keyevent notifications
shard channels                         the owner of the channel's slot
=====================================  ====================================================

What is wanted, and the map, say what stands where. :meth:`Subscriptions.settle` makes it so after
each change of either, and after each loss. So a subscription that had to move is confirmed to
its reader once more: what was published until then may be missing, as it may be after any loss of a
connection. What is published once is not heard twice: of what comes from a node only that counts
which it has confirmed, and that is withdrawn at one node before it is asked for at the next.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Any, Final

from redisutils.address import Address
from redisutils.client.branch import Branch, Subscription, is_event, may_be_event
from redisutils.client.branches import Branches
from redisutils.client.confirmations import KINDS, Confirmations
from redisutils.client.vigil import Vigil
from redisutils.errors import PoolClosed, code_of
from redisutils.retry import TRANSIENT
from redisutils.topology.cluster.cluster import Cluster
from redisutils.topology.cluster.node import Node
from redisutils.topology.cluster.redirects import FOLLOWED

__all__ = ["Subscriptions"]

_MESSAGES: Final = {"message": "subscribe", "pmessage": "psubscribe", "smessage": "ssubscribe"}

PERIOD: Final = 5.0
"""Seconds, less some at random, between two looks at the map for those who listen to what happens
to keys: a primary that has become a replica says nothing of it, and its successor is not heard."""

_PAUSE: Final = 0.1
"""Seconds before a node is asked again that has refused for the moment."""


class Subscriptions(Branches):
    """See the module's docstring. Belongs to the event loop that runs when it is made.

    Args:
        cluster: whose nodes.
        decode: whether strings are decoded.
        fixed: the home, for all that is no shard channel, keyspace notifications too.
        vigil: makes what sees to it that a node lives.
        patience: seconds for each connection to be made.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        decode: bool,
        fixed: Address | None,
        vigil: Callable[[], Vigil],
        patience: float,
    ) -> None:
        super().__init__(cluster, decode, vigil, patience)
        self._fixed = fixed
        self._wanted: dict[Subscription, None] = {}
        self._untold: set[Subscription] = set()
        self._confirmations = Confirmations(decode)
        self._home: Node | None = None
        self._at_home = False
        self._again: asyncio.TimerHandle | None = None
        self._period: asyncio.TimerHandle | None = None
        self._looked = False
        cluster.followers.add(self)

    def __repr__(self) -> str:
        return f"<Subscriptions {len(self._wanted)} at {list(self._branches.values())}>"

    # -- what is wanted ------------------------------------------------------------------

    async def subscribe(self, kind: str, names: Iterable[bytes]) -> None:
        """Listen to these as well. Returns when the nodes have been asked.

        Raises:
            ConnectFailed, CommandTimeout, PoolClosed: a node cannot be reached; nothing has
                changed.
        """
        given = [Subscription(kind, name) for name in names]
        new = [one for one in given if one not in self._wanted]
        for one in given:
            if one in self._wanted and one not in self._untold:  # it is there: confirmed at once
                self.add(self._confirmations.begun(one), True)
            else:
                self._wanted[one] = None
                self._untold.add(one)
        self._ask(self._plan(given))
        try:
            await self._settled(lambda: self._plan(given).keys())
        except BaseException:  # cancelled, too: what nobody waits for any more is not subscribed to
            for one in new:
                self._forget(one)
            self.settle()
            raise

    def unsubscribe(self, kind: str, names: Iterable[bytes]) -> None:
        """Do not listen to these any more; without names, to none of the kind. Confirmed at once:
        what still comes does not count."""
        given = [Subscription(kind, name) for name in names]
        told = given or [one for one in self._wanted if one.kind == kind]
        for one in told:
            self._forget(one)
            self.add(self._confirmations.ended(kind, one.name), True)
        if not told:
            self.add(self._confirmations.ended(kind, None), True)
        for branch in self._branches.values():
            if branch.connection is not None and (surplus := branch.held & set(told)):
                branch.unsubscribe(surplus)
        if not all(branch.held for branch in self._branches.values()):
            self.settle()  # connections that are not needed any more are closed

    def _forget(self, one: Subscription) -> None:
        self._wanted.pop(one, None)
        self._untold.discard(one)
        self._confirmations.forget(one)

    async def say(self, *args: Any) -> None:
        """Issue another command at home: its answer is the reader's."""
        self._at_home = True
        self.settle()
        await self._settled(lambda: {self._find_home()})
        home = self._find_home()
        assert home is not None
        self._branches[home].say(*args)

    # -- where ---------------------------------------------------------------------------

    def _find_home(self) -> Node | None:
        """Where it is now. Another one when it has left, or was found dead."""
        cluster = self._cluster
        home = self._home
        if home is not None and home.member is not None and home is cluster.nodes.get(home.address):
            return home
        if self._fixed is not None:
            home = cluster.member_at(self._fixed)
        else:
            home = cluster.any_primary()
        self._home = home = None if home is cluster.nowhere else home
        return home

    def _places(self, one: Subscription) -> set[Node]:
        cluster = self._cluster
        if one.kind == "ssubscribe":
            return {cluster.owners[one.slot]} - {cluster.nowhere}
        home = self._find_home()
        places: set[Node] = set() if home is None else {home}
        if self._fixed is None and may_be_event(one):
            if is_event(one.name):
                places.clear()
            places.update(cluster.primaries)
        return places

    def settle(self) -> None:
        """Let what is wanted stand where it belongs, as far as there are connections, and have
        those that are missing. O(wanted)."""
        if self.closed:
            return
        if self._cluster.closed:
            self.close()
            self.end(PoolClosed(f"the pool of {self._cluster.name} is closed"))
            return
        should = self._plan(self._wanted)
        if self._at_home and (home := self._find_home()) is not None:
            should.setdefault(home, {})
        for node in self._branches.keys() - should.keys():
            self._close(node)
        # Withdrawn everywhere before anything is asked for anywhere.
        for node, branch in self._branches.items():
            if branch.connection is not None and (surplus := branch.held - should[node].keys()):
                branch.unsubscribe(surplus)
                self._untold |= surplus & self._wanted.keys()
        self._ask(should)
        for one in [one for one in self._wanted if one in self._untold]:
            self._look(one)

    def _plan(self, some: Iterable[Subscription]) -> dict[Node, dict[Subscription, None]]:
        """Which of these belong where, in their order."""
        should: dict[Node, dict[Subscription, None]] = {}
        for one in some:
            for node in self._places(one):
                should.setdefault(node, {})[one] = None
        return should

    def _ask(self, should: dict[Node, dict[Subscription, None]]) -> None:
        for node, wanted in should.items():
            branch = self._branches.get(node) or self._branch(node)
            if branch.connection is None:
                self._connect(branch)
            elif missing := [one for one in wanted if one not in branch.held]:
                branch.subscribe(missing)
                self._untold.update(missing)
        self._changed.set()
        if self._period is None:
            self._look_regularly()

    def _look_regularly(self) -> None:
        self._period = None
        if not self.closed and self._fixed is None and any(map(may_be_event, self._wanted)):
            if self._looked:
                self._cluster.refresher.want()
            self._looked = True
            pause = PERIOD * (1 - random.random() / 4)
            self._period = self._cluster.loop.call_later(pause, self._look_regularly)
        else:
            self._looked = False

    def on_map(self) -> None:
        """The map has changed, perhaps."""
        self.settle()

    def _settle_soon(self) -> None:
        if self._again is None and not self.closed:
            self._again = self._cluster.loop.call_later(_PAUSE, self._settle_again)

    def _settle_again(self) -> None:
        self._again = None
        self.settle()

    # -- what becomes of connections -------------------------------------------------------

    def _gone(self, held: set[Subscription]) -> None:
        self._untold |= held & self._wanted.keys()

    def _cut_off(self, branch: Branch) -> None:
        if branch.node is self._home and self._fixed is None:
            self._home = None

    def _unreachable(self, branch: Branch) -> None:
        if branch.node is self._home and self._fixed is None:
            other = self._cluster.any_primary()
            if other not in (branch.node, self._cluster.nowhere):
                self._home = other
                self._cluster.loop.call_soon(self.settle)

    def close(self) -> None:
        """Listen to nothing any more."""
        if self.closed:
            return
        self.closed = True
        self._cluster.followers.discard(self)
        for timer in (self._again, self._period):
            if timer is not None:
                timer.cancel()
        for node in list(self._branches):
            self._close(node)
        self._wanted.clear()

    # -- what comes ------------------------------------------------------------------------

    def heard(self, branch: Branch, value: Any, is_push: bool) -> None:
        """Something came."""
        if isinstance(value, Exception):
            self._refused(branch, value)
            return
        if not isinstance(value, list) or len(value) < 3:
            if not branch.vigil.is_answer(value):
                self.add(value, is_push)
            return
        what = _text(value[0])
        if what in _MESSAGES:
            one = Subscription(_MESSAGES[what], _bytes(value[1]))
            if self._counts(branch, one, _bytes(value[-2])):
                self.add(value, is_push)
        elif what in KINDS:
            one = Subscription(what, _bytes(value[1]))
            branch.confirmed(True, one)
            if one in self._untold:
                self._look(one)
        elif what.replace("unsubscribe", "subscribe") in KINDS:
            if value[1] is not None:
                kind = what.replace("unsubscribe", "subscribe")
                self._ended(branch, Subscription(kind, _bytes(value[1])))
        else:
            self.add(value, is_push)

    def _counts(self, branch: Branch, one: Subscription, channel: bytes) -> bool:
        """Whether a message is one that is listened to there."""
        if one not in branch.told or one not in self._wanted:
            return False
        if one.kind == "ssubscribe" or self._fixed is not None or not may_be_event(one):
            return True
        if is_event(channel):  # a replica tells of its primary's keys, too
            return branch.node.primary is None
        return branch.node is self._home

    def _look(self, one: Subscription) -> None:
        """Tell the reader of ``one`` when it stands wherever it belongs."""
        places = self._places(one)
        branches = [self._branches.get(node) for node in places]
        if branches and all(branch is not None and one in branch.told for branch in branches):
            self._untold.discard(one)
            self.add(self._confirmations.begun(one), True)

    def _ended(self, branch: Branch, one: Subscription) -> None:
        """The node says that ``one`` is not subscribed to there any more."""
        if branch.confirmed(False, one) or one not in self._wanted:
            return
        self._untold.add(one)  # its slot has moved: the node will say where
        self._cluster.refresher.want()
        self.settle()

    def _refused(self, branch: Branch, error: Exception) -> None:
        code = code_of(error)
        if code in FOLLOWED:
            branch.refused(getattr(error, "slot_id", None))
            version = self._cluster.version
            self._cluster.redirected(error)
            if self._cluster.version == version:  # else we have been told, and have settled it
                self._cluster.refresher.want()
                self._settle_soon()
            return
        found = branch.refused(None)
        if found is None:
            self.add(error, False)
        elif not found[0]:
            pass  # it is not listened to any more either way
        elif code in TRANSIENT:
            self._cluster.refresher.want()
            self._settle_soon()
        else:
            for one in found[1]:
                self._forget(one)
            self.add(error, False)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else bytes(value).decode("latin-1")


def _bytes(value: Any) -> bytes:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else bytes(value)
