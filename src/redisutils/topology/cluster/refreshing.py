"""Keeping the map of a cluster: asking some node for it, one at a time, however many want it.

A map is wanted by whoever does not know where to send a command, at each MOVED and CLUSTERDOWN,
when a node is lost or silent, and every ``PERIOD`` seconds or so. What is wanted while a node is
being asked is one more round after it, no sooner than ``GAP`` seconds later. As long as a node that
owns slots is suspect, its successor is looked for every ``GAP_OF_SUSPICION`` seconds.

Any node may be asked; the next is, too, when one takes long. The answer of one that is behind
what is known already (by ``cluster_current_epoch``) counts only if nobody else knows better.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from time import monotonic
from typing import Any, Final, Protocol

from redis.exceptions import RedisError, ResponseError

from redisutils.address import AddressMap
from redisutils.connection.packing import OwnPayload, pack_many
from redisutils.connection.words import of_each
from redisutils.errors import CommandTimeout, ConnectFailed, RedisUtilsError, code_of, happened
from redisutils.metrics.counters import PoolMetrics
from redisutils.metrics.events import HARMLESS
from redisutils.pool.background import Background
from redisutils.retry import Reconnecting, RetryPolicy
from redisutils.topology.cluster.map import ClusterMap, from_shards, from_slots
from redisutils.topology.cluster.node import Node

__all__ = ["GAP_OF_SUSPICION", "Refresher", "Refreshing", "gap_of_suspicion"]

logger = logging.getLogger("redisutils.cluster")

PERIOD: Final = 60.0
"""Seconds between two looks at least once, less some at random, so that many programs do not ask
at the same moment."""

GAP: Final = 0.1
"""Seconds between two looks at most often."""

GAP_OF_SUSPICION: Final = 0.2
"""Seconds between two looks while a node that owns slots is suspect, on average: see
:func:`gap_of_suspicion`."""

STAGGER: Final = 0.1
"""Seconds for which one node is waited for before another is asked as well."""

ASK_FOR: Final = 2.0
"""Seconds that a node has to answer."""


def gap_of_suspicion(rand: Callable[[], float] = random.random) -> float:
    """Seconds until the next look while a node is suspect. Up to a quarter more or less: all
    programs lose a node at the same moment, and shall not go on asking at the same moment."""
    return GAP_OF_SUSPICION * (0.75 + rand() / 2)


class Refreshing(Protocol):
    """Whose map is kept."""

    name: str
    metrics: PoolMetrics

    def candidates(self) -> list[Node]:
        """The nodes that may be asked, the best first."""

    def adopt(self, new: ClusterMap) -> None:
        """A map has come."""

    def in_vain(self, error: ConnectFailed, reconnecting: Reconnecting, counts: bool) -> None:
        """Nobody gave a map. ``counts``: it was one of the attempts that count."""

    def suspects(self) -> bool:
        """Whether a node that owns slots is suspect."""

    def waiting(self) -> bool:
        """Whether a command waits for a map."""

    def policy(self) -> RetryPolicy:
        """How attempts are repeated."""


class Refresher:
    """See the module's docstring. Belongs to the event loop that runs when it is made.

    Args:
        cluster: whose map it is.
        tls: whether the nodes are spoken to in TLS.
        addresses: where announced addresses are reached from here.
    """

    def __init__(self, cluster: Refreshing, *, tls: bool, addresses: AddressMap) -> None:
        self._cluster = cluster
        self._tls = tls
        self._addresses = addresses
        self._wanted = asyncio.Event()
        self._background = Background(self._run, lambda: GAP)
        self._slots_only = False
        self.epoch = 0
        """Of the map that was last adopted: see ``ClusterMap``."""
        self.rounds = 0
        """How often the nodes were asked."""
        self.last = -inf
        """When a map was last adopted (``time.monotonic``)."""
        self.error: ConnectFailed | None = None
        """Why there was none the last time."""

    def want(self) -> None:
        """Have a map soon. Costs nothing when one is wanted already."""
        self._wanted.set()
        self._background.begin()

    def stop(self) -> None:
        """Ask no more."""
        self._background.end()

    async def stopped(self) -> None:
        """Wait for the end of what was under way."""
        await self._background.ended()

    # -- rounds ------------------------------------------------------------------------

    async def _run(self) -> None:
        reconnecting = Reconnecting()
        while True:
            self._wanted.clear()
            try:
                reconnecting = await self._round(reconnecting)
            except Exception as error:  # it is told, and the next may do better
                self._cluster.metrics.background_errors += 1
                with HARMLESS:
                    logger.error("the map of %s: %s", self._cluster.name, error, exc_info=error)
            await asyncio.sleep(max(GAP, reconnecting.pause))
            if self._wanted.is_set() or self._cluster.waiting():
                continue
            pause = PERIOD * (1 - random.random() / 4)
            if self._cluster.suspects():
                pause = gap_of_suspicion() - GAP
            try:
                async with asyncio.timeout(pause):
                    await self._wanted.wait()
            except TimeoutError:
                pass

    async def _round(self, reconnecting: Reconnecting) -> Reconnecting:
        self.rounds += 1
        try:
            found = await self._first(self._cluster.candidates())
        except ConnectFailed as error:
            counts = reconnecting.failed(self._cluster.policy(), monotonic(), final=error.fatal)
            self.error = error
            self._cluster.in_vain(error, reconnecting, counts)
            return reconnecting
        self.error = None
        self.epoch = found.epoch
        self.last = monotonic()
        self._cluster.adopt(found)
        return Reconnecting()

    async def _first(self, candidates: Sequence[Node]) -> ClusterMap:
        """The map of the first that answers and is not behind."""
        left = deque(candidates)
        asked: dict[asyncio.Task[ClusterMap], Node] = {}
        behind: list[ClusterMap] = []
        failures: dict[str, ConnectFailed] = {}
        try:
            while left or asked:
                if left:
                    node = left.popleft()
                    asked[asyncio.ensure_future(self._ask(node))] = node
                done, _ = await asyncio.wait(
                    asked,
                    timeout=STAGGER if left else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    try:
                        found = task.result()
                    except ConnectFailed as error:
                        failures[str(asked.pop(task).address)] = error
                        continue
                    if found.epoch >= self.epoch:
                        return found
                    del asked[task]
                    behind.append(found)
        finally:
            for task in asked:
                task.cancel()
                task.add_done_callback(_forget)
        if behind:  # nobody knows what we knew: it was set up anew
            return max(behind, key=lambda found: found.epoch)
        raise _nobody(self._cluster.name, failures)

    async def _ask(self, node: Node) -> ClusterMap:
        """Raises:
        ConnectFailed: for whatever reason.
        """
        try:
            async with asyncio.timeout(ASK_FOR):
                return await self._asked(node)
        except ConnectFailed:
            raise
        except (TimeoutError, CommandTimeout):
            # It may have been spent on attempts to connect: then those tell why.
            raise ConnectFailed(node.trouble or f"no answer within {ASK_FOR:g} s") from None
        except (RedisError, RedisUtilsError, OSError) as error:
            raise ConnectFailed(happened(error)) from error

    async def _asked(self, node: Node) -> ClusterMap:
        info, told = await self._issue(node, "SLOTS" if self._slots_only else "SHARDS")
        slots_only = self._slots_only
        if not slots_only and isinstance(told, ResponseError) and "nknown" in str(told):
            slots_only = True  # Redis before 7, and what is no cluster at all
            info, told = await self._issue(node, "SLOTS")
        if isinstance(told, Exception):
            raise _refused(told)
        self._slots_only |= slots_only
        epoch = 0 if isinstance(info, Exception) else _epoch(str(info))
        try:
            if slots_only:
                found = from_slots(told, node.address, self._addresses, epoch)
            else:
                found = from_shards(told, node.address, self._tls, self._addresses, epoch)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            how = "SLOTS" if slots_only else "SHARDS"
            raise ConnectFailed(f"what it answers to CLUSTER {how} is no map: {error!r}") from error
        if not found.shards:
            raise ConnectFailed("it knows of nobody who owns slots")
        return found

    async def _issue(self, node: Node, how: str) -> tuple[Any, Any]:
        payload = OwnPayload(pack_many((("CLUSTER", "INFO"), ("CLUSTER", how))))
        lane = node.server.lane()
        info, told = await lane.unwatched_many(payload, 2, True, ASK_FOR)
        return info, told


def _forget(task: asyncio.Task[ClusterMap]) -> None:
    """Nobody needs its answer any more."""
    if not task.cancelled():
        task.exception()


def _epoch(info: str) -> int:
    for line in info.splitlines():
        name, _, value = line.partition(":")
        if name == "cluster_current_epoch" and value.isdigit():
            return int(value)
    return 0


def _refused(error: Exception) -> ConnectFailed:
    if "cluster support disabled" in str(error):
        return ConnectFailed(
            "it is no cluster: set REDIS_MODE=standalone, or start it with cluster-enabled yes",
            fatal=True,
        )
    if "unknown command" in str(error).lower():
        return ConnectFailed(
            "it does not know the command CLUSTER: a sentinel (set REDIS_MODE=sentinel, or name "
            "the cluster's nodes in REDIS_NODES), or a server whose rename-command hides it",
            fatal=True,
        )
    if code_of(error) == "NOPERM":
        return ConnectFailed(
            f"this user may not ask for the map: {error}; "
            "allow +cluster|shards +cluster|slots +cluster|info",
            fatal=True,
        )
    return ConnectFailed(str(error))


def _nobody(name: str, failures: dict[str, ConnectFailed]) -> ConnectFailed:
    told = of_each({address: _once(error) for address, error in failures.items()})
    fatal = bool(failures) and all(error.fatal for error in failures.values())
    kinds = {type(error) for error in failures.values()}
    kind = kinds.pop() if len(kinds) == 1 else ConnectFailed  # as when the password is wrong
    return kind(
        f"no node of {name} tells who owns which slots: {told or 'none is known'}", fatal=fatal
    )


def _once(error: ConnectFailed) -> str:
    """What happened, without how often it was tried: that is told of all nodes together."""
    cause = error.__cause__
    if isinstance(cause, ConnectFailed) and error.message.startswith(cause.message):
        return cause.message
    return error.message
