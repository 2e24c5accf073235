"""Commands of one turn leave together, at once, and never more of them than the bounds allow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis

from redisutils import create_redis_pool
from redisutils.client.redis_pool import RedisPool
from redisutils.connection import protocol
from redisutils.connection.flights import MAX_IN_FLIGHT
from redisutils.connection.packing import pack
from redisutils.connection.protocol import Connection
from redisutils.errors import CommandTimeout, Outcome
from redisutils.testing import EmbeddedServer, FaultProxy
from tests.ours import standalone

from .peers import DEADLINE, Peer, Recorder, Wire, turns, until

PING = pack(("PING",))


@pytest.fixture
async def pool(clean_server: EmbeddedServer) -> AsyncIterator[RedisPool]:
    async with create_redis_pool(url=clean_server.url) as pool:
        await pool.client.ping()
        yield pool


def connection_of(pool: RedisPool) -> Connection:
    connection = standalone(pool).lane().connection
    assert connection is not None
    return connection


# -- how many writes -----------------------------------------------------------------------------


async def test_a_lone_command_goes_straight_out(pool: RedisPool) -> None:
    """In the very call, not in the next turn: there is nobody to wait for."""
    recorder = Recorder(connection_of(pool))
    for number in range(1, 4):
        await turns(1)  # one who was woken by a reply writes when the read callback ends
        reply = standalone(pool).lane().submit(PING, False, DEADLINE)
        assert recorder.writes == [PING] * number
        assert await reply == b"PONG"


async def test_commands_of_one_turn_leave_in_one_write(pool: RedisPool) -> None:
    recorder = Recorder(connection_of(pool))
    answers = await asyncio.gather(*(pool.client.echo(str(i)) for i in range(100)))
    assert answers == [str(i).encode() for i in range(100)]
    # The first finds nothing in flight; the other 99 are all of the turn's.
    assert len(recorder.writes) == 2
    assert [command[1] for command in recorder.commands()] == answers


async def test_one_of_many_servers_is_written_to_once_in_a_turn() -> None:
    """Answers of two servers come in one turn, and each brings commands for both: two writes."""
    async with Wire() as here, Wire() as there:
        both = (here, there)
        for wire in both:
            wire.connection.one_of_many = True
        recorders = [Recorder(wire.connection) for wire in both]
        seen: list[list[int]] = []
        asked: list[asyncio.Future[Any]] = []

        def go_on(_: object) -> None:
            asked.extend(wire.ask("GET", "again") for wire in both)

        for wire in both:
            asked += [wire.ask("GET", "first") for _ in range(3)]
        for reply in asked[:]:
            reply.add_done_callback(go_on)
        await turns(2)
        for recorder in recorders:
            recorder.writes.clear()
        loop = asyncio.get_running_loop()
        for wire in both:
            loop.call_soon(wire.connection.data_received, b"+x\r\n" * 3)
            loop.call_soon(lambda: seen.append([len(recorder.writes) for recorder in recorders]))
        await turns(3)
        assert seen == [[0, 0], [0, 0]], "the turn was not over"
        assert [len(recorder.writes) for recorder in recorders] == [1, 1]
        assert [len(recorder.commands()) for recorder in recorders] == [6, 6]


async def test_a_lone_command_waits_for_no_other_server() -> None:
    async with Wire() as wire:
        wire.connection.one_of_many = True
        recorder = Recorder(wire.connection)
        asked = [wire.ask("GET", "first")]
        asked[0].add_done_callback(lambda _: asked.append(wire.ask("GET", "again")))
        assert len(recorder.writes) == 1
        loop, seen = asyncio.get_running_loop(), []
        loop.call_soon(wire.connection.data_received, b"+x\r\n")
        loop.call_soon(lambda: seen.append(len(recorder.writes)))
        await turns(2)
        assert seen == [2], "before the turn ended"


async def test_company_is_not_waited_for() -> None:
    """What is issued while others are in flight leaves when the turn ends, by no timer."""
    async with Wire() as wire:
        recorder = Recorder(wire.connection)
        replies = [wire.ask("GET", "in flight")]
        await turns(3)
        for number in range(5):
            replies += [wire.ask("GET", f"{number}/{i}") for i in range(3)]
            assert len(recorder.writes) == 1 + number
            await turns(1)
            assert len(recorder.writes) == 2 + number
        assert len(recorder.commands()) == 16
        await wire.say(b"+x\r\n" * 16)
        assert await asyncio.gather(*replies) == [b"x"] * 16


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_there_is_one_timer_for_all() -> None:
    """Not one a command: the loop's heap of timers does not grow with what is in flight."""
    async with Wire() as wire:
        first = wire.ask()
        loop: Any = asyncio.get_running_loop()  # whose timers are its own affair
        timers: list[Any] = loop._scheduled
        before = len(timers)
        replies = [wire.ask() for _ in range(1000)]
        await turns(3)
        assert len(timers) <= before
        await wire.say(b"+x\r\n" * 1001)
        await asyncio.gather(first, *replies)


async def test_next_commands_of_those_who_are_woken_leave_together() -> None:
    """One read wakes a hundred tasks, each asks again: their commands leave in few writes, and
    before the read callback ends."""
    async with Wire() as wire:

        async def asks_twice(number: int) -> tuple[Any, Any]:
            return await wire.ask("FIRST", number), await wire.ask("SECOND", number)

        tasks = [asyncio.ensure_future(asks_twice(number)) for number in range(100)]
        await until(lambda: wire.connection.in_flight == 100)
        await turns(2)
        recorder = Recorder(wire.connection)
        await wire.say(b"".join(b"+1/%d\r\n" % number for number in range(100)))
        assert len(recorder.commands()) == 100
        assert len(recorder.writes) <= 4
        await wire.say(b"".join(b"+2/%d\r\n" % number for number in range(100)))
        assert await asyncio.gather(*tasks) == [
            (b"1/%d" % number, b"2/%d" % number) for number in range(100)
        ]


async def test_writes_of_a_busy_crowd(pool: RedisPool) -> None:
    recorder = Recorder(connection_of(pool))

    async def one(number: int) -> None:
        for round_ in range(20):
            mine = f"{number}/{round_}".encode()
            assert await pool.client.echo(mine) == mine

    await asyncio.gather(*(one(number) for number in range(100)))
    assert len(recorder.commands()) == 2000
    assert len(recorder.writes) <= 2000 / 8


async def test_a_turn_that_does_not_end_writes_early() -> None:
    """Its commands do not pile up without bound before they leave."""
    async with Wire() as wire:
        recorder = Recorder(wire.connection)
        replies = [wire.ask() for _ in range(5 * protocol.FLUSH_AT_MOST)]
        assert len(recorder.commands()) > 3 * protocol.FLUSH_AT_MOST
        await turns(1)
        assert len(recorder.commands()) == 5 * protocol.FLUSH_AT_MOST
        assert max(write.count(b"PING") for write in recorder.writes) <= protocol.FLUSH_AT_MOST
        await wire.say(b"+x\r\n" * len(replies))
        await asyncio.gather(*replies)


# -- what belongs together -----------------------------------------------------------------------


async def test_transactions_are_contiguous(pool: RedisPool) -> None:
    """Of a hundred tasks with transactions, pipelines and single commands, none comes between."""
    recorder = Recorder(connection_of(pool))
    client = pool.client

    async def transaction(number: int) -> None:
        for round_ in range(5):
            pipe: Any = client.pipeline()
            pipe.set(f"key {number}", round_)
            pipe.incr(f"key {number}")
            pipe.get(f"key {number}")
            assert await pipe.execute() == [True, round_ + 1, b"%d" % (round_ + 1)]

    async def plain(number: int) -> None:
        for round_ in range(5):
            pipe: Any = client.pipeline(transaction=False)
            for part in range(3):
                pipe.echo(f"plain {number} {round_} {part}")
            await pipe.execute()

    async def single(number: int) -> None:
        for _ in range(15):
            assert await client.echo(f"single {number}") == f"single {number}".encode()

    crowd = [deed(number) for number in range(34) for deed in (transaction, plain, single)]
    await asyncio.gather(*crowd)
    commands = recorder.commands()
    starts = [place for place, command in enumerate(commands) if command == [b"MULTI"]]
    assert len(starts) == 34 * 5
    for place in starts:
        names = [command[0] for command in commands[place : place + 5]]
        assert names == [b"MULTI", b"SET", b"INCRBY", b"GET", b"EXEC"]
        assert len({command[1] for command in commands[place + 1 : place + 4]}) == 1
    for place, command in enumerate(commands):
        if command[1:] and command[1].startswith(b"plain") and command[1].endswith(b" 0"):
            assert [c[1][:-1] for c in commands[place : place + 3]] == [command[1][:-1]] * 3


async def test_one_callers_commands_keep_their_order(
    pool: RedisPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under ``gather``, and across the bound, at which some of them wait."""
    for bound in (MAX_IN_FLIGHT, 8):
        monkeypatch.setattr(protocol, "MAX_IN_FLIGHT", bound)
        monkeypatch.setattr(protocol, "FLUSH_AT_MOST", min(bound, protocol.FLUSH_AT_MOST))
        await pool.client.delete("list")
        lengths = await asyncio.gather(*(pool.client.rpush("list", i) for i in range(2000)))
        assert lengths == list(range(1, 2001))
        values = await pool.client.lrange("list", 0, -1)
        assert values == [b"%d" % i for i in range(2000)]


# -- the bounds ----------------------------------------------------------------------------------


class Watch(Recorder):
    """Looks at each write at what is in flight after it, and remembers the most."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.connection = connection
        self.commands_in_flight = self.bytes_in_flight = self.buffered = self.count = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        connection = self.connection
        self.count += 1
        self._inner.write(data)
        self.commands_in_flight = max(
            self.commands_in_flight, connection.in_flight - len(connection._out)
        )
        self.bytes_in_flight = max(self.bytes_in_flight, connection._flights.bytes)
        self.buffered = max(self.buffered, self._inner.get_write_buffer_size())


def is_clean(connection: Connection) -> bool:
    """Nothing of what has been answered is kept."""
    return not (
        connection._expected
        or connection._out
        or connection._flights.under_way
        or connection._flights.bytes
        or connection.blocked
    )


async def test_a_producer_of_200_000_commands_is_held_back(pool: RedisPool) -> None:
    """All in one turn: only so many are in flight, none fails, each once, and in their order."""
    lane = standalone(pool).lane()
    connection = connection_of(pool)
    watch = Watch(connection)
    payload = pack(("INCR", "counter"))
    # asyncio's debug mode takes a picture of the stack for each future.
    count = 20_000 if asyncio.get_running_loop().get_debug() else 200_000
    replies = [lane.submit(payload, False, 60) for _ in range(count)]
    assert lane.depth == count
    await asyncio.wait(replies[-1:])
    assert [reply.result() for reply in replies] == list(range(1, count + 1))
    most = MAX_IN_FLIGHT + protocol.FLUSH_AT_MOST
    assert MAX_IN_FLIGHT / 2 < watch.commands_in_flight <= most
    assert watch.bytes_in_flight <= most * len(payload)
    assert watch.buffered <= most * len(payload)
    assert lane.connection is connection
    assert lane.depth == 0
    await until(lambda: is_clean(connection))
    # The lane is open again: a lone command goes straight out.
    writes = watch.count
    reply = lane.submit(PING, False, 60)
    assert watch.count == writes + 1
    assert await reply == b"PONG"


async def test_bytes_in_flight_are_bounded(
    pool: RedisPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MAX_BYTES_IN_FLIGHT", 200_000)
    monkeypatch.setattr(protocol, "FLUSH_AT_MOST", 8)
    connection = connection_of(pool)
    watch = Watch(connection)
    value = b"x" * 10_000
    done = await asyncio.gather(*(pool.client.set(f"key {i}", value) for i in range(500)))
    assert done == [True] * 500
    assert 100_000 < watch.bytes_in_flight <= 200_000 + 8 * 10_100
    assert await pool.client.dbsize() == 500
    await until(lambda: is_clean(connection))


async def test_bytes_of_one_turn_are_bounded(
    pool: RedisPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large values, all issued in one turn: too few commands for it to write early."""
    monkeypatch.setattr(protocol, "MAX_BYTES_IN_FLIGHT", 1_000_000)
    watch = Watch(connection_of(pool))
    value = b"x" * 100_000
    done = await asyncio.gather(*(pool.client.set(f"key {i}", value) for i in range(100)))
    assert done == [True] * 100
    assert watch.bytes_in_flight <= 2_000_000


async def test_one_command_past_the_bound_is_no_dead_end(
    pool: RedisPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MAX_BYTES_IN_FLIGHT", 1000)
    for _ in range(3):
        answers: Any = await asyncio.gather(
            pool.client.set("big", b"x" * 5_000_000),
            pool.client.echo("behind"),
            pool.client.set("big too", b"x" * 5_000_000),
            pool.client.echo("last"),
        )
        assert list(answers) == [True, b"behind", True, b"last"]


async def test_a_peer_that_does_not_read(
    proxy: FaultProxy, server: EmbeddedServer, admin: redis.Redis
) -> None:
    """Callers wait, and what the transport keeps is bounded; when it reads again, all is done."""
    async with create_redis_pool(
        host=proxy.host, port=proxy.port, password=server.password, command_timeout=30
    ) as pool:
        await pool.client.ping()
        lane = standalone(pool).lane()
        connection = connection_of(pool)
        watch = Watch(connection)
        proxy.stall()
        value = b"x" * 10_000
        tasks = [asyncio.ensure_future(pool.client.set(f"key {i}", value)) for i in range(3000)]
        await until(lambda: lane.depth == 3000)
        await turns(10)
        assert connection.blocked
        # A megabyte makes it pause; what one write may add is 512 commands.
        assert watch.buffered <= 2**20 + (protocol.FLUSH_AT_MOST + 1) * 10_100
        assert connection.in_flight < 3000
        assert not any(task.done() for task in tasks)
        late = pool.client.with_timeout(0.02).incr("late")
        with pytest.raises(CommandTimeout, match="in flight before it") as e:
            await late
        assert e.value.outcome is Outcome.NOT_SENT
        proxy.restore()
        assert await asyncio.gather(*tasks) == [True] * 3000
        assert lane.connection is connection
        await until(lambda: is_clean(connection))
        assert await pool.client.dbsize() == 3000  # the late one was never sent


async def test_answers_do_not_let_callers_on_while_the_peer_does_not_read() -> None:
    """It answers what it has read, and what it has not read fills our memory."""
    async with Wire() as wire:
        connection = wire.connection
        replies = []
        while not connection.blocked:
            replies.append(wire.ask("SET", "k", b"x" * 100_000))
        count = len(replies)
        assert connection.unwritten > 2**20
        await wire.say(b"+OK\r\n" * 3)
        assert connection.in_flight == count - 3
        assert connection.blocked
        assert len(await wire.heard(count)) == count
        await until(lambda: not connection.blocked)
        assert not connection.unwritten
        await wire.say(b"+OK\r\n" * (count - 3))
        assert await asyncio.gather(*replies) == [b"OK"] * count
        assert is_clean(connection)


async def test_the_bound_holds_while_a_refused_command_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The refusal comes while callers are held back."""
    monkeypatch.setattr(protocol, "MAX_IN_FLIGHT", 8)
    monkeypatch.setattr(protocol, "FLUSH_AT_MOST", 4)

    def answer(command: list[bytes]) -> bytes:
        return b"-READONLY not now\r\n" if command[0] == b"SET" else b""

    settings: dict[str, Any] = {"command_timeout": 1000, "retry_delay_ms": 1000}
    async with Peer(answer) as peer, create_redis_pool(url=peer.url, **settings) as pool:
        client = pool.client
        tasks = [asyncio.ensure_future(client.set("k", "v"))]
        tasks += [asyncio.ensure_future(client.get(f"before {i}")) for i in range(20)]
        await until(lambda: pool.metrics().retries.get("READONLY"))
        tasks += [asyncio.ensure_future(client.get(f"after {i}")) for i in range(100)]
        await turns(10)
        assert 8 - 1 <= connection_of(pool).in_flight < 8 + 4
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_callers_held_back_may_leave(proxy: FaultProxy, server: EmbeddedServer) -> None:
    """Those who are cancelled while they wait at the bound are not sent, the others are."""
    async with create_redis_pool(
        host=proxy.host, port=proxy.port, password=server.password
    ) as pool:
        client = pool.client
        await client.ping()
        lane = standalone(pool).lane()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(protocol, "MAX_IN_FLIGHT", 10)
            patch.setattr(protocol, "FLUSH_AT_MOST", 10)
            proxy.stall()
            tasks = [asyncio.ensure_future(client.incr("counter")) for _ in range(100)]
            await until(lambda: lane.depth == 100)
            written = connection_of(pool).in_flight
            for task in tasks[50:]:
                task.cancel()
            await asyncio.wait(tasks[50:])
            proxy.restore()
            assert await asyncio.gather(*tasks[:50]) == list(range(1, 51))
        assert written <= 20
        assert await client.get("counter") == b"50"
        assert lane.depth == 0


async def test_a_pipeline_waits_at_the_bound_as_a_whole(
    proxy: FaultProxy, server: EmbeddedServer
) -> None:
    async with create_redis_pool(
        host=proxy.host, port=proxy.port, password=server.password
    ) as pool:
        client = pool.client
        await client.ping()
        recorder = Recorder(connection_of(pool))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(protocol, "MAX_IN_FLIGHT", 5)
            patch.setattr(protocol, "FLUSH_AT_MOST", 5)

            async def one(number: int) -> list[Any]:
                pipe: Any = client.pipeline()
                for _ in range(3):
                    pipe.incr(f"counter {number}")
                return list(await pipe.execute())

            assert await asyncio.gather(*(one(number) for number in range(50))) == [[1, 2, 3]] * 50
        names = [command[0] for command in recorder.commands()]
        assert names == [b"MULTI", b"INCRBY", b"INCRBY", b"INCRBY", b"EXEC"] * 50


async def test_a_later_command_does_not_put_the_alarm_off(
    proxy: FaultProxy, clean_server: EmbeddedServer
) -> None:
    """Its budget is the shorter one, and ends later all the same."""
    url = f"redis://:{clean_server.password}@{proxy.host}:{proxy.port}"
    async with create_redis_pool(url=url) as pool:
        await pool.client.ping()
        connection = connection_of(pool)
        proxy.stall()
        first = connection.submit(PING, False, 0.3)
        await asyncio.sleep(0.05)
        second = connection.submit(PING, False, 0.28)
        due = [reply.deadline for reply in connection.owed()]
        assert due == sorted(due)
        assert connection._alarm.at <= due[0]
        await asyncio.wait([first, second])
        for reply in (first, second):
            assert isinstance(reply.exception(), CommandTimeout)
