"""The subscriptions of one process: each instrument is subscribed to once, however many read it.

One task sees to it that what is wanted is asked for, another reads what comes. All is on one
connection (in a cluster one to each node), which is made when the first wants something, made again
when it is lost, and given back when nobody wants anything. What is asked of one node waits for no
other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable
from typing import Any, Final

import msgspec
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from redisutils import RedisPool
from redisutils.connection.alarm import FOREVER
from redisutils.connection.packing import pack
from redisutils.errors import Outcome, PoolClosed, code_of, outcome_of
from redisutils.retry import LONGEST_PAUSE, TRANSIENT
from redisutils.topology.cluster.cluster import Cluster
from redisutils.trading.codec import Codec, Encoding
from redisutils.trading.errors import InvalidValue, ServiceClosed, UnreadableRecord
from redisutils.trading.market.feed import Feed, Message, State
from redisutils.trading.market.instruments import Instrument
from redisutils.trading.market.quotes import Quote
from redisutils.trading.market.subscription import Policy, Sink, Subscription, Update

__all__ = ["Hub"]

logger = logging.getLogger("redisutils.trading")

_TURN: Final = 32
"""Messages that are read without a pause before readers get their turn."""


class Hub:
    """See the module's docstring. Belongs to the event loop that runs when it is made.

    :param channels: ``"sharded"`` or ``"plain"``, as what is published.
    :param ttl: seconds after which a quote is absent.
    """

    def __init__(
        self,
        pool: RedisPool,
        codec: Codec[Quote],
        *,
        lane: str,
        encoding: Encoding,
        channels: str,
        ttl: float,
    ) -> None:
        text = msgspec.json if encoding == "json" else msgspec.msgpack
        self._decode = text.Decoder(list[Quote]).decode
        self._decode_raw = text.Decoder(list[msgspec.Raw]).decode
        self._codec = codec
        self._pool = pool
        self._client = pool.lane(lane)
        self._lane = pool.server.lane_for(lane, "primary")
        self._timeout = min(pool.server.settings.command_timeout, FOREVER)
        self._backoff = pool.server.settings.retry.backoff
        self._channels = channels
        self._sharded = channels == "sharded"
        self._ttl = ttl
        self._feeds: dict[bytes, tuple[Feed, Instrument]] = {}
        self._asked: set[bytes] = set()
        self._heard: dict[bytes, float] = {}
        self._wish = asyncio.Event()
        self._pubsub: PubSub | None = None
        self._asking: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._requests: set[asyncio.Task[None]] = set()
        self._states: dict[bytes, asyncio.Task[None]] = {}
        self._loop = asyncio.get_running_loop()
        self._closed = False

    # -- who reads ---------------------------------------------------------------------------

    def subscribe(self, known: Instrument, policy: Policy, capacity: int) -> Subscription:
        """One more reader of an instrument."""
        if self._closed:
            raise ServiceClosed("the market data service is closed: make another")
        if self._channels == "none":
            raise InvalidValue('channels="none": nothing is published that could be subscribed to')
        sink = Sink(policy, capacity)
        channel = known.quote.encode()
        feed, _ = self._feeds.get(channel) or (Feed(), known)
        if channel not in self._feeds:
            self._feeds[channel] = feed, known
            self._wish.set()
            if channel in self._asked:  # it was left a moment ago, and not withdrawn yet
                self._confirmed(channel)
        elif (current := self._current(channel, feed)) is not None:
            sink.extend([current], gap=False)
        feed.sinks = (*feed.sinks, sink)
        if self._asking is None:
            self._asking = self._loop.create_task(self._ask())
        return Subscription(known.name, policy, sink, lambda: self._left(channel, sink))

    def _current(self, channel: bytes, feed: Feed) -> Update | None:
        """The last update, if it is known that there is none after it, and it has not expired."""
        if not self.connected:
            return None
        alive = self._loop.time() - self._heard.get(channel, 0.0) < self._ttl
        return feed.current.alone() if feed.live and feed.current and alive else None

    def _left(self, channel: bytes, sink: Sink) -> None:
        feed, _ = self._feeds.get(channel, (None, None))
        sink.end()
        if feed is None or sink not in feed.sinks:
            return
        feed.sinks = tuple(one for one in feed.sinks if one is not sink)
        if not feed.sinks:
            del self._feeds[channel]
            self._heard.pop(channel, None)
            self._wish.set()

    async def close(self) -> None:
        """End all subscriptions, and give the connection back. A second call does nothing."""
        self._closed = True
        self._end(None)
        tasks = [task for task in (self._asking, self._reading) if task is not None]
        tasks += [*self._requests, *self._states.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._hang_up()

    def _end(self, error: BaseException | None) -> None:
        feeds, self._feeds = self._feeds, {}
        for feed, _ in feeds.values():
            feed.end(error)

    @property
    def connected(self) -> bool:
        """Whether there is a connection; in a cluster, whether there may be."""
        connection: Any = None if self._pubsub is None else self._pubsub.connection
        return connection is not None and bool(connection.is_connected)

    # -- asking ------------------------------------------------------------------------------

    async def _ask(self) -> None:
        failures = 0
        while True:
            await self._wish.wait()
            self._wish.clear()
            try:
                await self._settle()
                failures = 0
            except RedisError as error:
                if not _may_pass(error):
                    logger.error("live quotes end: %s", error)
                    self._end(error)
                    await self._hang_up()
                    continue
                failures += 1
                self._wish.set()
                await asyncio.sleep(min(self._backoff.delay(failures), LONGEST_PAUSE))

    async def _settle(self) -> None:
        """Ask for what is missing, unsubscribe from what nobody wants."""
        wanted = self._feeds.keys()
        if not wanted:
            await self._hang_up()
            return
        if self._pubsub is None:
            self._pubsub = self._client.pubsub()
        if self._reading is not None and not self.connected:
            return  # whoever reads makes another, and what it confirms sets the wish again
        pubsub = self._pubsub
        await pubsub.connect()  # type: ignore[no-untyped-call]  # redis-py's
        if surplus := self._asked - wanted:
            self._asked -= surplus
            await (pubsub.sunsubscribe if self._sharded else pubsub.unsubscribe)(*surplus)
        for channels in self._by_node(wanted - self._asked):
            self._asked.update(channels)
            request = self._loop.create_task(self._request(pubsub, channels))
            self._requests.add(request)
            request.add_done_callback(self._requests.discard)
        if self._reading is None:
            self._reading = self._loop.create_task(self._read(pubsub))

    def _by_node(self, channels: Iterable[bytes]) -> Collection[list[bytes]]:
        """Channels that one node has; all, if there is but one, or each has all."""
        server = self._pool.server
        owners = server.owners if self._sharded and isinstance(server, Cluster) else None
        groups: dict[object, list[bytes]] = {}
        for channel in channels:
            owner = None if owners is None else owners[self._feeds[channel][1].slot]
            groups.setdefault(owner, []).append(channel)
        return groups.values()

    async def _request(self, pubsub: PubSub, channels: Collection[bytes]) -> None:
        """Subscribe to these; if that fails, later again."""
        try:
            await (pubsub.ssubscribe if self._sharded else pubsub.subscribe)(*channels)
        except RedisError as error:
            if _may_pass(error):
                await asyncio.sleep(min(self._backoff.delay(1), LONGEST_PAUSE))
            else:
                logger.error("live quotes end: %s", error)
                self._end(error)
            self._asked.difference_update(channels)
            self._wish.set()
        else:
            if not self._feeds.keys() >= set(channels):  # they were left while we asked
                self._asked.update(channels)
                self._wish.set()

    async def _hang_up(self) -> None:
        pubsub, self._pubsub = self._pubsub, None
        reading, self._reading = self._reading, None
        self._asked.clear()
        ending = [*self._requests] if reading is None else [*self._requests, reading]
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
        if pubsub is not None:
            await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py's

    # -- reading -----------------------------------------------------------------------------

    async def _read(self, pubsub: PubSub) -> None:
        failures = turn = 0
        while True:
            try:
                raw: Any = await pubsub.parse_response(block=True)
            except RedisError as error:
                if not _may_pass(error):
                    logger.error("live quotes end: %s", error)
                    self._end(error)
                    self._wish.set()
                    return
                if self.connected:
                    # A node of a cluster is away. What it has is confirmed again when it is back;
                    # of what the others have, the states tell that nothing was missed.
                    for channel in self._asked & self._feeds.keys():
                        self._confirmed(channel)
                    await asyncio.sleep(0)
                    continue
                for feed, _ in self._feeds.values():
                    feed.lost()
                failures += 1
                await asyncio.sleep(min(self._backoff.delay(failures), LONGEST_PAUSE))
                continue
            failures = 0
            what = raw[0] if isinstance(raw, list) and len(raw) == 3 else b""
            if what in (b"smessage", b"message"):
                found = self._feeds.get(raw[1])
                if found is not None:
                    feed = found[0]
                    self._take(raw[1], *found, raw[2])
                    turn += 1
                    if turn >= _TURN or feed.crowded:
                        turn, feed.crowded = 0, False
                        await asyncio.sleep(0)
                        for sink in feed.sinks:
                            if sink.blocks:
                                await sink.room()
                continue
            await pubsub.handle_message(raw)  # type: ignore[no-untyped-call]  # redis-py's
            if what in (b"ssubscribe", b"subscribe"):
                self._confirmed(raw[1])

    def _take(self, channel: bytes, feed: Feed, known: Instrument, data: bytes) -> None:
        self._heard[channel] = self._loop.time()
        try:
            feed.heard(self._message(data, known))
        except (UnreadableRecord, ValueError, RecursionError) as error:
            logger.warning("a message on %s is none of ours: %s", known.quote, error)
            feed.spoiled()

    def _message(self, data: bytes, known: Instrument) -> Message:
        head, _, body = data.partition(b" ")
        epoch, _, number = head.partition(b":")
        try:
            quotes = self._decode(body)
        except msgspec.ValidationError:  # of a newer version, with fields that we do not know
            quotes = [self._codec.decode(bytes(one), known.quote) for one in self._decode_raw(body)]
        if not quotes:
            raise InvalidValue("there is no quote in it")
        return Message(int(epoch), int(number), quotes)

    def _confirmed(self, channel: bytes) -> None:
        found = self._feeds.get(channel)
        self._wish.set()
        if found is None:
            return
        found[0].begun()
        reading = self._states.pop(channel, None)
        if reading is not None:
            reading.cancel()
        task = self._states[channel] = self._loop.create_task(self._state(channel, *found))
        task.add_done_callback(lambda done: self._forget(channel, done))

    def _forget(self, channel: bytes, done: asyncio.Task[None]) -> None:
        if self._states.get(channel) is done:
            del self._states[channel]

    async def _state(self, channel: bytes, feed: Feed, known: Instrument) -> None:
        """Read what the database has, however often it takes."""
        failures = 0
        while True:
            try:
                state = await self._state_now(known)
            except (RedisError, UnreadableRecord) as error:
                if isinstance(error, UnreadableRecord) or not _may_pass(error):
                    feed.end(error)
                    self._feeds.pop(channel, None)
                    self._wish.set()
                    return
                failures += 1
                await asyncio.sleep(min(self._backoff.delay(failures), LONGEST_PAUSE))
            else:
                self._heard[channel] = self._loop.time()
                feed.read(state)
                return

    async def _state_now(self, known: Instrument) -> State | None:
        payload = pack(("HMGET", known.quote, "v", "n", "e"))
        value, number, epoch = await self._lane.submit(payload, False, self._timeout)
        if value is None:
            return None
        quote = self._codec.decode(value, known.quote)
        if number is None or epoch is None or not (number.isdigit() and epoch.isdigit()):
            raise UnreadableRecord(
                f"no count of ours under {known.quote}: n={number!r}, e={epoch!r} must be numbers"
            )
        return State(int(epoch), int(number), quote)


def _may_pass(error: RedisError) -> bool:
    if isinstance(error, PoolClosed):
        return False
    return outcome_of(error) is not Outcome.REJECTED or code_of(error) in TRANSIENT
