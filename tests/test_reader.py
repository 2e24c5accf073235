"""What becomes of reads whose server is not to be asked any more, whoever says whom to ask."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, Future
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from math import inf
from time import monotonic
from typing import Any

import pytest

from redisutils import RedisPool, create_redis_pool
from redisutils.connection.packing import pack, unpack
from redisutils.connection.reply import Reply, new_reply
from redisutils.errors import Outcome
from redisutils.metrics.reading import ReadCounts
from redisutils.pool.lane import Lane
from redisutils.retry import RetryPolicy
from redisutils.topology.cluster.fence import Holding
from redisutils.topology.plan import Reading
from redisutils.topology.reading.figures import Figures
from redisutils.topology.reading.hedging import Budget
from redisutils.topology.reading.reader import Reader, only_reads
from redisutils.topology.reading.watching import Watching
from redisutils.topology.reading.writes import Writes

from .ours import standalone
from .peers import Peer, until

# What is shown here is ours, and the loop has no part in it.
pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

GET = pack(("GET", "k"))


class Server:
    """One that is played, and has the data."""

    def __init__(self) -> None:
        self.peer = Peer(lambda _: b"" if self.silent else b"+v\r\n")
        self.silent = False
        self.figures = Figures()
        self.figures.answered(0.001)
        self.pool: RedisPool

    @property
    def asked(self) -> int:
        return len(self.peer.heard)


class Copies:
    """All of them have the data of each."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = servers
        self.counts = ReadCounts()
        self.budget = Budget(0.0)
        self.by_others = Writes(1.0)
        self.writes = [self.by_others]
        self.watching: Watching[Server] = Watching(
            Reading(), self.replicas_of, self._ask, lambda _: None, lambda: None
        )

    def replicas_of(self, primary: Server) -> Sequence[Server]:
        return [server for server in self.servers if server is not primary]

    def _ask(self, server: Server, payload: bytes, decode: bool, timeout: float) -> Future[Any]:
        raise AssertionError


class Over(Reader[Server]):
    """Reads from the first, or from whom ``at`` says; from nobody if that is None."""

    def __init__(self, copies: Copies, reading: Reading) -> None:
        self.closed = False
        self.servers = copies.servers
        self.at: Server | None = self.servers[0]
        self.first = standalone(self.servers[0].pool)
        self.unread = Holding("the test", self.first.metrics, lambda: "why", lambda: None)
        super().__init__(copies, reading, self.unread, self.first.metrics)

    @property
    def loop(self) -> AbstractEventLoop:
        return asyncio.get_running_loop()

    @property
    def _policy(self) -> RetryPolicy:
        return self.first.settings.retry

    def lane_of(self, server: Server, /) -> Lane:
        return standalone(server.pool).lane()

    def _opened(self, server: Server, /) -> Lane | None:
        return self.lane_of(server)

    def _load(self, server: Server, /) -> int:
        return self.lane_of(server).depth

    def only_reads(self, reply: Reply) -> bool:
        return all(map(only_reads, unpack(reply.payload)))

    def reroute(self, reply: Reply) -> None:
        self._place_for(reply).take_over(reply)

    def hand_over(self, reply: Reply, target: Callable[[], Lane | Holding]) -> None:
        target().take_over(reply)

    def _place_for(self, reply: Reply) -> Lane | Holding:
        return self.unread if self.at is None else self.lane_of(self.at)

    def read(self, *words: str) -> Future[Any]:
        assert self.at is not None
        return self.lane_of(self.at).submit(pack(words or ("GET", "k")), False, 30.0)

    async def owed(self) -> Future[Any]:
        """A read that was sent to the first, which is silent from now on."""
        first = self.servers[0]
        first.silent = True
        read = self.read()
        await until(lambda: first.asked == 1)
        return read

    def why(self) -> str:
        told = [(number, server.figures) for number, server in enumerate(self.servers, 1)]
        return self._why_none("P", told, fit="it is fit", none="it has none")


@asynccontextmanager
async def over(reading: Reading | None = None, **settings: Any) -> AsyncIterator[Over]:
    """A reader over two."""
    servers = [Server(), Server()]
    async with AsyncExitStack() as stack:
        for server in servers:
            await stack.enter_async_context(server.peer)
            made = create_redis_pool(url=server.peer.url, **settings)
            server.pool = await stack.enter_async_context(made)
            assert await server.pool.client.get("k") == b"v"
            server.peer.heard.clear()
        yield Over(Copies(servers), reading or Reading())


async def read_alone_moves(reader: Over, read: Future[Any], write: Future[Any]) -> None:
    """The second answers what the first was to be asked, but no write."""
    a, b = reader.servers
    reader.at = b
    reader.give_up(a)
    assert await read == b"v"
    assert b.peer.heard == [[b"GET", b"k"]]
    assert reader._counts.moved_on == 1
    assert not write.done()
    write.cancel()


async def test_a_read_that_is_given_up_is_asked_of_another() -> None:
    async with over() as reader:
        a, _ = reader.servers
        a.silent = True
        read, write = reader.read(), reader.read("SET", "k", "v")
        await until(lambda: a.asked == 2)
        await read_alone_moves(reader, read, write)


async def test_what_waits_to_be_sent_is_asked_of_another_too() -> None:
    async with over() as reader:
        a, _ = reader.servers
        a.silent, a.peer.polite = True, False  # connections that follow do not get on
        for transport in list(a.peer.open):
            transport.abort()
        await until(lambda: reader.lane_of(a).connection is None)
        read, write = reader.read(), reader.read("SET", "k", "v")
        await read_alone_moves(reader, read, write)


async def test_what_was_given_up_may_have_been_executed() -> None:
    async with over() as reader:
        a, b = reader.servers
        read = await reader.owed()
        reader.at = None
        reader.give_up(a)
        (again,) = reader.unread.parked.withdraw(lambda _: True)
        assert again.fate is Outcome.UNKNOWN
        reader.lane_of(b).take_over(again)
        assert await read == b"v"


async def test_it_stays_where_nobody_else_may_be_asked() -> None:
    async with over() as reader:
        a, _ = reader.servers
        read = await reader.owed()
        reader.give_up(a)
        assert reader._counts.moved_on == 0
        a.peer.say(b"+late\r\n")
        assert await read == b"late"
        assert a.asked == 1


async def test_it_goes_from_one_to_the_next_as_often_as_retries_are_allowed() -> None:
    async with over(max_retries=3) as reader:
        a, b = reader.servers
        a.silent = b.silent = True
        read = reader.read()
        for turn in range(5):
            asked = (a, b)[turn % 2]
            if turn < 4:
                await until(lambda: a.asked + b.asked == turn + 1)  # noqa: B023  # of this turn
            reader.at = (b, a)[turn % 2]
            reader.give_up(asked)
        assert reader._counts.moved_on == 3
        b.peer.say(b"+no\r\n+no\r\n")  # the first is nobody's any more
        assert await read == b"no"
        assert a.asked + b.asked == 4


async def test_with_retries_off_nothing_is_given_up() -> None:
    async with over(retry="never") as reader:
        a, b = reader.servers
        read = await reader.owed()
        reader.at = b
        reader.give_up(a)
        assert b.asked == 0
        a.peer.say(b"+late\r\n")
        assert await read == b"late"


@pytest.mark.parametrize("fate", [Outcome.NOT_SENT, Outcome.UNKNOWN])
async def test_what_was_refused_rests_whoever_may_be_asked_meanwhile(fate: Outcome) -> None:
    async with over() as reader:
        a, b = reader.servers
        reply = new_reply(reader.loop, GET, False, 30.0)
        reply.fate = fate
        reader.at = b
        reader.issue_refused(reply, "LOADING", 0.05, reader.reroute)
        reader.on_changed()
        assert len(reader.unread.parked) == 1
        assert await reply.future == b"v"
        assert (a.asked, b.asked) == (0, 1)
        assert reply.redirects == 1
        assert reply.fate is (Outcome.UNKNOWN if fate is Outcome.UNKNOWN else Outcome.REJECTED)
        assert reader.first.metrics.retries == {"LOADING": 1}


async def test_what_was_refused_goes_on_at_once_where_it_may() -> None:
    async with over() as reader:
        reply = new_reply(reader.loop, GET, False, 30.0)
        issued: list[Reply] = []
        reader.issue_refused(reply, "LOADING", 0.0, issued.append)
        assert issued == [reply]
        assert len(reader.unread.parked) == 0


async def test_what_nobody_may_be_asked_for_waits_for_a_change() -> None:
    async with over() as reader:
        _, b = reader.servers
        reader.at = None
        reply = new_reply(reader.loop, GET, False, 30.0)
        reader.reroute(reply)
        assert len(reader.unread.parked) == 1
        reader.at = b
        reader.on_changed()
        assert await reply.future == b"v"


async def test_who_may_be_asked_is_worked_out_anew_after_a_change() -> None:
    async with over(Reading("prefer-replica", max_lag=inf)) as reader:
        a, b = reader.servers
        assert reader._choosing.choose(a) is b
        b.figures.failed("it is silent")
        reader.on_changed()
        assert reader._choosing.choose(a) is a


async def test_why_nobody_is_asked_is_told_of_each() -> None:
    async with over(Reading("replica", max_lag=2.0)) as reader:
        a, b = (server.figures for server in reader.servers)
        ending = "; REDIS_READ_FROM=prefer-replica reads from the primary then"
        assert reader.why() == (
            "no replica of P may be read from (1: how far it is behind is not known yet; "
            "2: how far it is behind is not known yet)" + ending
        )
        a.failed("it is silent")
        b.fresh_at = monotonic() - 3.0
        assert reader.why() == (
            "no replica of P may be read from (1: it is silent; "
            "2: it is behind by more than REDIS_READ_MAX_LAG_SECONDS=2)" + ending
        )
        b.fresh_at = inf
        assert "2: it is fit" in reader.why()
        reader.servers = []
        assert reader.why() == "no replica of P may be read from (it has none)" + ending


async def test_own_writes_are_remembered_by_the_others_when_it_ends() -> None:
    async with over(Reading("replica", own_writes=60.0)) as reader:
        others = reader._copies.by_others
        (_, mine) = reader._copies.writes
        mine.note(7, reader.loop.create_future())
        reader._stop_reading()
        assert reader._copies.writes == [others]
        assert others.recent(7)
