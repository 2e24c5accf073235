"""What the parts of a cluster need of each other."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from weakref import WeakSet

from redisutils.address import Address
from redisutils.connection.reply import Batch, Reply
from redisutils.metrics.counters import PoolMetrics
from redisutils.pool.model import Timeouts
from redisutils.pool.settings import PoolSettings
from redisutils.topology.cluster.node import Node

__all__ = [
    "Answering",
    "Fencing",
    "Follower",
    "Known",
    "LaneOver",
    "Scattering",
    "Taker",
    "Wanting",
]


class Taker(Protocol):
    """What takes commands: a node's lane, or what holds them until it is known which."""

    def submit(self, payload: bytes, decode: bool, timeout: float) -> Future[Any]: ...

    def submit_many(
        self, payload: bytes, size: int, decode: bool, timeout: float
    ) -> Future[Any]: ...

    def take_over(self, reply: Reply) -> None:
        """Issue what was issued before. See ``Lane.take_over``."""


class Wanting(Protocol):
    """Keeps the map."""

    def want(self) -> None:
        """Have a new one soon."""


class Follower(Protocol):
    """Who wants to know where slots and nodes are."""

    def on_map(self) -> None:
        """The map has changed, perhaps."""


class Known(Protocol):
    """Who is there, and who owns what."""

    name: str
    metrics: PoolMetrics
    settings: PoolSettings
    nodes: dict[Address, Node]
    nowhere: Node
    """The owner of slots whose owner is not known."""
    owners: list[Node]
    """The owner of each slot. The same list for ever."""
    primaries: list[Node]
    version: int
    """Grows whenever a slot changes its owner."""

    followers: WeakSet[Follower]
    """Who is told of each new map, and of each slot that has moved."""

    @property
    def loop(self) -> AbstractEventLoop: ...

    @property
    def timeouts(self) -> Timeouts: ...

    @property
    def refresher(self) -> Wanting: ...

    def check_usable(self) -> None:
        """Raises WrongLoop or PoolClosed."""

    def node_at(self, announced: Address) -> Node:
        """The node that others call so."""

    def any_primary(self) -> Node:
        """One of them; ``nowhere`` if none is known."""

    def moved(self, slot: int, node: Node) -> None:
        """A node says that ``node`` owns ``slot`` now."""

    def suspect(self, node: Node) -> None:
        """``node`` was lost, or does not answer."""

    def why_unknown(self) -> str:
        """Why it is not known who owns a slot."""

    async def mapped(self, timeout: float) -> None:
        """Wait until it is known who owns what. Raises CommandTimeout or ConnectFailed."""

    async def next_map(self) -> None:
        """Wait for the next map. Raises ConnectFailed."""


class Fencing(Protocol):
    """Holds back what has to wait for its turn, by slot. See ``Fences``."""

    def refuse(
        self, node: Node, slot: int, reply: Reply, refusal: Any, seconds: float = 0.0
    ) -> None:
        """``node`` has refused ``reply``, which is for the owner of ``slot``, after ``seconds``."""

    def may_ask(self, node: Node, slot: int, reply: Reply, refusal: Any) -> bool:
        """Whether ``reply``, which ``node`` has refused with ASK, may be asked of another one
        now. If not, it waits."""

    def passed(self, reply: Reply) -> None:
        """No fence need wait for ``reply`` any more."""

    def behind_all(self, payload: bytes, decode: bool, timeout: float) -> Future[Any] | None:
        """Issue a command that concerns all slots, behind what is held; None if nothing is."""


class Scattering(Protocol):
    """Sends again what was issued before."""

    def scatter(
        self,
        batch: Batch,
        values: list[Any],
        places: Sequence[int],
        issue: Callable[[int, Reply], None],
    ) -> None:
        """See ``Resending.scatter``."""

    def apart(self, batch: Batch, issue: Callable[[Reply], None]) -> None:
        """Issue the commands of ``batch`` one by one."""

    def settle(self, node: str, late: Sequence[Reply]) -> None:
        """``node``, which has lost a slot, does not answer these."""


class Answering(Protocol):
    """Follows what one node says of others."""

    def answer(self, reply: Reply, answers: list[Any]) -> None:
        """These came from that node."""


class LaneOver(Protocol):
    """A lane over the whole cluster."""

    @property
    def loop(self) -> AbstractEventLoop: ...

    @property
    def resending(self) -> Scattering: ...

    @property
    def fences(self) -> Fencing: ...

    def target(self, slot: int | None) -> Taker:
        """What takes commands for a slot now; None for those that have no key."""

    def lane_of(self, node: Node) -> Taker:
        """The lane of one node."""

    def redirects_of(self, node: Node) -> Answering:
        """What follows the redirections of one node."""

    def reroute(self, reply: Reply) -> None:
        """Issue again what was issued before, wherever its slot is now."""

    def hand_over(self, reply: Reply, target: Callable[[], Taker]) -> None:
        """Let what ``target()`` gives issue what was issued before."""
