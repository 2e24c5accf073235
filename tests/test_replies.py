"""Nobody ever gets another's reply, whatever is cancelled, times out, comes in pieces or fails."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest
import redis
from redis.exceptions import ResponseError

from redisutils import Redis, create_redis_pool
from redisutils.client.redis_pool import RedisPool
from redisutils.connection.protocol import Connection
from redisutils.errors import CommandTimeout, ConnectionLost, Outcome, ProtocolError, outcome_of
from redisutils.testing import (
    Close,
    Cut,
    EmbeddedServer,
    FaultProxy,
    Fragment,
    HalfClose,
    Latency,
    Reset,
    Stall,
    Swallow,
    Timeline,
)

from .ours import standalone
from .peers import DEADLINE, Wire, turns, until


@pytest.fixture
async def pool(clean_server: EmbeddedServer) -> AsyncIterator[RedisPool]:
    async with create_redis_pool(url=clean_server.url) as pool:
        yield pool


def proxied(proxy: FaultProxy, server: EmbeddedServer, **more: Any) -> RedisPool:
    return create_redis_pool(
        host=proxy.host, port=proxy.port, password=server.password, **{"retry_delay_ms": 1} | more
    )


# Each returns whether what came was the caller's own. `mine` is a value that nobody else has.


async def echo(client: Redis, mine: str) -> bool:
    return bool(await client.echo(mine) == mine.encode())


async def write_and_read(client: Redis, mine: str) -> bool:
    await client.set(f"key:{mine}", mine)
    return bool(await client.get(f"key:{mine}") == mine.encode())


async def missing(client: Redis, mine: str) -> bool:
    return await client.get(f"missing:{mine}") is None


async def error(client: Redis, mine: str) -> bool:
    try:
        await client.eval(f"return redis.error_reply('MINE {mine}')", 0)
    except ResponseError as e:
        return mine in str(e) and outcome_of(e) is Outcome.REJECTED
    return False


async def nested_error(client: Redis, mine: str) -> bool:
    first, middle, last = await client.eval(
        f"return {{ARGV[1], redis.error_reply('MINE {mine}'), ARGV[1]}}", 0, mine
    )
    assert isinstance(middle, ResponseError)
    return first == last == mine.encode() and mine in str(middle)


async def pipeline(client: Redis, mine: str) -> bool:
    pipe: Any = client.pipeline(transaction=False)
    pipe.echo(mine)
    pipe.execute_command("NOSUCHCOMMAND", mine)
    pipe.echo(mine)
    first, middle, last = await pipe.execute(raise_on_error=False)
    assert isinstance(middle, ResponseError)
    return first == last == mine.encode() and mine in str(middle)


async def transaction(client: Redis, mine: str) -> bool:
    pipe: Any = client.pipeline(transaction=True)
    pipe.set(f"tx:{mine}", mine)
    pipe.incr(f"tx:{mine}")
    pipe.get(f"tx:{mine}")
    done, failed, value = await pipe.execute(raise_on_error=False)
    return done is True and isinstance(failed, ResponseError) and value == mine.encode()


async def several(client: Redis, mine: str) -> bool:
    names = [f"m:{mine}:{i}" for i in range(3)]
    await client.mset(dict.fromkeys(names, mine))
    return bool(await client.mget(names) == [mine.encode()] * 3)


async def too_late(client: Redis, mine: str) -> bool:
    try:
        return await echo(client.with_timeout(0.0005), mine)
    except CommandTimeout:
        return True


async def cancelled(client: Redis, mine: str) -> bool:
    task = asyncio.ensure_future(echo(client, mine))
    await turns(len(mine) % 3)
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return True


async def bad_argument(client: Redis, mine: str) -> bool:
    try:
        await client.execute_command("SET", mine, object())
    except redis.DataError:
        return True
    return False


DEEDS = (
    echo,
    write_and_read,
    missing,
    error,
    nested_error,
    pipeline,
    transaction,
    several,
    too_late,
    cancelled,
    bad_argument,
)


async def crowd(client: Redis, tasks: int, rounds: int, seed: int) -> None:
    """So many tasks, each doing so many random deeds one after the other, all at once."""
    done = 0

    async def one(number: int) -> None:
        nonlocal done
        chance = random.Random(f"{seed}/{number}")
        for round_ in range(rounds):
            deed = chance.choice(DEEDS)
            mine = f"{number}-{round_}-" + "x" * chance.randrange(3)
            assert await deed(client, mine), (deed.__name__, mine)
            done += 1

    await asyncio.gather(*(one(number) for number in range(tasks)))
    assert done == tasks * rounds


@pytest.mark.parametrize("seed", range(3))
async def test_hundreds_of_tasks_at_once(pool: RedisPool, seed: int) -> None:
    await crowd(pool.client, tasks=300, rounds=4, seed=seed)
    assert pool.status().size == 1


@pytest.mark.parametrize("fragment", [1, 2, 7, 100])
async def test_in_pieces(proxy: FaultProxy, server: EmbeddedServer, fragment: int) -> None:
    async with proxied(proxy, server) as pool:
        await pool.client.ping()
        proxy.to_client.fragment = fragment
        await crowd(pool.client, tasks=8 if fragment < 7 else 60, rounds=3, seed=fragment)
        assert proxy.accepted == 1


async def test_late_replies(proxy: FaultProxy, server: EmbeddedServer) -> None:
    """Callers leave while their replies are under way; those who come after get their own."""
    async with proxied(proxy, server) as pool:
        client = pool.client
        await client.ping()
        connection = standalone(pool).lane().connection
        proxy.to_client.latency = 0.03
        for wave in range(3):
            early = [asyncio.ensure_future(client.echo(f"early {wave} {i}")) for i in range(50)]
            timed = [
                asyncio.ensure_future(client.with_timeout(0.01).echo(f"timed {wave} {i}"))
                for i in range(50)
            ]
            await turns(3)
            for task in early:
                task.cancel()
            late = [asyncio.ensure_future(client.echo(f"late {wave} {i}")) for i in range(50)]
            assert await asyncio.gather(*late) == [b"late %d %d" % (wave, i) for i in range(50)]
            ends = await asyncio.gather(*early, *timed, return_exceptions=True)
            assert {type(end) for end in ends[:50]} == {asyncio.CancelledError}
            assert {type(end) for end in ends[50:]} == {CommandTimeout}
        assert standalone(pool).lane().connection is connection


async def test_across_lost_connections(proxy: FaultProxy, server: EmbeddedServer) -> None:
    """Whoever is answered gets his own, whoever is not is told so."""
    async with proxied(proxy, server, command_timeout=5) as pool:
        client = pool.client
        await client.ping()
        chance = random.Random(7)
        lost = answered = 0

        async def one(number: int) -> None:
            nonlocal lost, answered
            for round_ in range(10):
                mine = f"{number}/{round_}".encode()
                # SET and GET are repeated by themselves; APPEND nobody may repeat for us.
                await client.set(mine, mine)
                assert await client.get(mine) == mine
                try:
                    assert await client.append(mine, b"") == len(mine)
                    answered += 1
                except ConnectionLost as error:
                    lost += error.outcome is Outcome.UNKNOWN

        async def breaks() -> None:
            while True:
                accepted = proxy.accepted
                proxy.to_client.cut_after(chance.randrange(300, 1500), "reset")
                await proxy.wait_accepted(accepted + 1)

        breaking = asyncio.ensure_future(breaks())
        await asyncio.gather(*(one(number) for number in range(40)))
        breaking.cancel()
        assert proxy.accepted > 3
        assert lost
        assert answered


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_hundreds_of_thousands_of_commands_in_a_bad_network(
    proxy: FaultProxy, server: EmbeddedServer
) -> None:
    """Batches and lone commands with names that nobody else has, some abandoned and some with
    hardly any time, while the network does what it likes. Nobody hangs, and no answer is
    another's. (``make soak`` does the same for ten minutes, with everything else that clients
    do.)"""
    most = 250_000
    asked = answered = 0
    timeline = Timeline.random(
        seed=11,
        duration=60.0,
        faults=[
            Fragment(7),
            Fragment(1000),
            Latency(0.0, jitter=0.005),
            Stall(),
            Reset(),
            Close(),
            HalfClose(),
            lambda random: Cut(random.randrange(5000), "reset"),
            lambda random: Cut(random.randrange(5000), toward="client"),
            Swallow(1),
            Swallow(1, then="close"),
        ],
        every=(0.02, 0.1),
        lasting=(0.01, 0.05),
    )
    settings = {"command_timeout": 5, "max_retries": 1000, "retry_max_delay_ms": 10}

    async def batch(client: Redis, names: list[str]) -> list[Any]:
        pipe: Any = client.pipeline(transaction=False)
        for name in names:
            pipe.echo(name)
        return list(await pipe.execute())

    async def one(client: Redis, number: int) -> None:
        nonlocal asked, answered
        chance = random.Random(number)
        while asked < most:
            size = chance.choice((1, 1, 50, 200))
            names = [f"{number}/{asked + i}" for i in range(size)]
            asked += size
            hurried = client.with_timeout(0.003) if chance.random() < 0.05 else client
            if size == 1:
                task: asyncio.Task[Any] = asyncio.ensure_future(hurried.echo(names[0]))
            else:
                task = asyncio.ensure_future(batch(hurried, names))
            if chance.random() < 0.05:
                await turns(chance.randrange(4))
                task.cancel()
            try:
                answer = await task
            except (asyncio.CancelledError, CommandTimeout, ConnectionLost):
                continue
            assert (answer if size > 1 else [answer]) == [name.encode() for name in names]
            answered += size

    async with (
        proxied(proxy, server, **settings) as pool,
        asyncio.timeout(60),
        timeline.on(proxy),
    ):
        await asyncio.gather(*(one(pool.client, number) for number in range(300)))
    assert answered > most / 2
    assert proxy.accepted > 5


async def test_big_replies_in_between(pool: RedisPool) -> None:
    client = pool.client
    big = {f"big:{i}": bytes([i]) * 2_000_000 for i in range(4)}
    await client.mset(big)
    names = [name for i in range(4) for name in (f"big:{i}", f"small:{i}")]
    await client.mset({name: name for name in names if name.startswith("small")})
    values = await asyncio.gather(*(client.get(name) for name in names * 2))
    assert values == [big.get(name, name.encode()) for name in names * 2]
    assert await client.mget(names) == [big.get(name, name.encode()) for name in names]


async def test_a_big_reply_nobody_waits_for_any_more(pool: RedisPool) -> None:
    client = pool.client
    await client.set("big", b"x" * 8_000_000)
    connection = standalone(pool).lane().connection
    for _ in range(3):
        task = asyncio.ensure_future(client.get("big"))
        await turns(2)
        task.cancel()
        assert await client.echo("mine") == b"mine"
    assert standalone(pool).lane().connection is connection


# -- pushes --------------------------------------------------------------------------------------


async def test_pushes_in_between(clean_server: EmbeddedServer) -> None:
    """Invalidations come between the replies of commands that cause them."""
    async with Redis.from_url(clean_server.url, single_connection_client=True) as client:
        await client.execute_command("CLIENT", "TRACKING", "ON", "BCAST")

        async def one(number: int) -> None:
            for round_ in range(10):
                mine = f"{number}/{round_}".encode()
                await client.set(mine, mine)
                assert await client.get(mine) == mine
                pipe: Any = client.pipeline(transaction=False)
                pipe.append(mine, mine)
                pipe.get(mine)
                pipe.append(mine, mine)
                pipe.echo(mine)
                assert await pipe.execute() == [len(mine) * 2, mine * 2, len(mine) * 3, mine]

        await asyncio.gather(*(one(number) for number in range(30)))


async def test_a_push_that_is_not_text(clean_server: EmbeddedServer) -> None:
    """It must not be taken for the reply at the head, or all that follow go to the wrong ones."""
    async with Redis.from_url(
        clean_server.url, single_connection_client=True, decode_responses=True, retry_mode="never"
    ) as client:
        await client.execute_command("CLIENT", "TRACKING", "ON", "BCAST")
        commands: list[Any] = []
        for number in range(30):
            commands.append(client.set(b"\xff\xfe", number))
            commands.append(client.echo(str(number)))
        answers = await asyncio.gather(*commands, return_exceptions=True)
        for number, answer in enumerate(answers[1::2]):
            # The connection may be given up, but nobody gets what is another's.
            assert answer == str(number) or isinstance(answer, ConnectionLost), answers
        for answer in answers[::2]:
            assert answer is True or isinstance(answer, ConnectionLost), answers
        # Its tracking is gone with the connection, and has to be set again before it goes on.
        await client.execute_command("CLIENT", "TRACKING", "ON", "BCAST")
        assert await client.echo("after") == "after"


@pytest.mark.parametrize("many", [False, True])
async def test_a_push_that_is_not_text_on_the_wire(many: bool) -> None:
    async with Wire() as wire:
        wire.connection.tainted = True
        replies = [wire.ask_many(2, decode=True)] if many else [wire.ask(decode=True)]
        await wire.say(b">2\r\n+invalidate\r\n$1\r\n\xff\r\n+one\r\n+two\r\n")
        for reply in replies:
            with pytest.raises(ProtocolError, match="the-peer:1"):
                await reply
        assert wire.connection.closed


async def test_pubsub_message_that_is_not_text(clean_server: EmbeddedServer) -> None:
    """It is told, and those behind it come."""
    async with (
        Redis.from_url(clean_server.url, decode_responses=True) as client,
        client.pubsub() as pubsub,
    ):
        await pubsub.subscribe("channel")
        assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
        for message in (b"one", b"\xff", b"three"):
            await client.publish("channel", message)
        assert (await pubsub.get_message(timeout=5))["data"] == "one"
        with pytest.raises(UnicodeDecodeError):
            await pubsub.get_message(timeout=5)
        assert (await pubsub.get_message(timeout=5))["data"] == "three"


# -- what does not decode ------------------------------------------------------------------------


@pytest.mark.parametrize("fragment", [None, 3])
async def test_undecodable_replies(
    proxy: FaultProxy, server: EmbeddedServer, fragment: int | None
) -> None:
    async with proxied(proxy, server) as pool:
        client = pool.make_client(decode_responses=True)
        await client.set("bad", b"\xff\xfe")
        await client.rpush("list", b"good", b"\xff", b"good")
        proxy.to_client.fragment = fragment

        async def good(mine: str) -> None:
            assert await client.echo(mine) == mine

        async def bad(*command: str) -> None:
            with pytest.raises(UnicodeDecodeError) as e:
                await client.execute_command(*command)
            assert outcome_of(e.value) is Outcome.EXECUTED

        async def batch(mine: str) -> None:
            pipe: Any = client.pipeline(transaction=False)
            pipe.echo(mine)
            pipe.get("bad")
            pipe.lrange("list", 0, -1)
            pipe.echo(mine)
            first, second, third, last = await pipe.execute(raise_on_error=False)
            assert first == last == mine
            assert isinstance(second, UnicodeDecodeError)
            assert isinstance(third, UnicodeDecodeError)

        deeds: list[Coroutine[Any, Any, None]] = []
        for i in range(10):
            deeds += [good(f"a{i}"), bad("GET", "bad"), good(f"b{i}"), batch(f"c{i}")]
            deeds += [bad("LRANGE", "list", "0", "-1")]
        await asyncio.gather(*deeds)
        assert proxy.accepted == 1
        assert await pool.client.get("bad") == b"\xff\xfe"  # another client of the same lane


async def test_each_undecodable_reply_is_settled_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a look at all that is in flight: thousands would stop the loop for seconds."""
    async with Wire() as wire:
        replies = [wire.ask(decode=True) for _ in range(100)]
        await wire.heard(len(replies))
        with monkeypatch.context() as patched:
            patched.delattr(Connection, "owed")
            await wire.say(b"$1\r\n\xff\r\n" * len(replies))
        for reply in replies:
            assert isinstance(reply.exception(), UnicodeDecodeError)


async def test_a_reply_that_comes_inside_a_task_steps_no_other() -> None:
    """As under a loop that is patched to run within itself: that other runs in its turn."""
    async with Wire() as wire:

        async def other() -> object:
            return await wire.ask()

        task = asyncio.create_task(other())
        await wire.heard(1)
        wire.connection.data_received(b"+PONG\r\n")
        assert not task.done()
        assert await asyncio.wait_for(task, DEADLINE) == b"PONG"


async def test_an_undecodable_reply_of_one_who_has_gone(pool: RedisPool) -> None:
    client = pool.make_client(decode_responses=True)
    await client.set("bad", b"\xff")
    for _ in range(20):
        task = asyncio.ensure_future(client.get("bad"))
        await turns(1)
        task.cancel()
        assert await client.echo("mine") == "mine"
        with pytest.raises(asyncio.CancelledError):
            await task


# -- frames, cut at every byte -------------------------------------------------------------------

FRAMES: dict[bytes, Any] = {
    b"+OK\r\n": "OK",
    b"+\r\n": "",
    b":-12\r\n": -12,
    b"$5\r\nhe\r\no\r\n": "he\r\no",
    b"$0\r\n\r\n": "",
    b"$-1\r\n": None,
    b"*-1\r\n": None,
    b"_\r\n": None,
    b"#t\r\n": True,
    b"#f\r\n": False,
    b",1.5\r\n": 1.5,
    b",inf\r\n": float("inf"),
    b"(34928903284092385093248509438509438\r\n": "34928903284092385093248509438509438",
    b"=7\r\ntxt:abc\r\n": "abc",
    b"*0\r\n": [],
    b"*3\r\n:1\r\n$1\r\na\r\n*1\r\n#f\r\n": [1, "a", [False]],
    b"%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n_\r\n": {"a": 1, "b": [None]},
    b"%0\r\n": {},
}


@pytest.mark.parametrize(("frame", "value"), FRAMES.items(), ids=[repr(f)[2:-1] for f in FRAMES])
async def test_frames_cut_at_every_byte(frame: bytes, value: Any) -> None:
    """Whole and cut anywhere, alone and with the next reply behind it, singly and in a batch."""
    async with Wire() as wire:
        for trailer in (
            b"",
            b"+next\r\n",
            b"+next\r\n>2\r\n+a\r\n+b\r\n",
            b">1\r\n+push\r\n+next\r\n",
        ):
            whole = frame + trailer
            for at in range(len(whole) + 1):
                mine, next_ = wire.ask(decode=True), wire.ask(decode=True)
                await wire.say(whole[:at])
                await wire.say(whole[at:] or b"")
                if not trailer:
                    await wire.say(b"+next\r\n")
                got = await mine
                assert got == value
                assert type(got) is type(value)
                assert await next_ == "next"
                assert wire.connection.in_flight == 0


async def test_frames_byte_by_byte() -> None:
    async with Wire() as wire:
        for frame, value in FRAMES.items():
            replies = [wire.ask(decode=True) for _ in range(2)]
            for byte in frame + b"+next\r\n":
                await wire.say(bytes([byte]))
            assert await asyncio.gather(*replies) == [value, "next"]


async def test_batches_cut_at_every_byte() -> None:
    """Errors within, pushes between the parts, and replies of others on both sides."""
    stream = b"+before\r\n:1\r\n>1\r\n+push\r\n-ERR two\r\n*2\r\n-ERR deep\r\n:3\r\n+after\r\n"
    for at in range(len(stream) + 1):
        async with Wire() as wire:
            before, batch, after = wire.ask(), wire.ask_many(3), wire.ask()
            await wire.say(stream[:at])
            await wire.say(stream[at:])
            assert await before == b"before"
            one, two, (deep, three) = await batch
            assert (one, three) == (1, 3)
            assert isinstance(two, ResponseError)
            assert str(two) == "two"
            assert isinstance(deep, ResponseError)
            assert str(deep) == "deep"
            assert await after == b"after"


async def test_errors_cut_at_every_byte() -> None:
    stream = b"-WRONGTYPE one\r\n*3\r\n:1\r\n-ERR two\r\n:3\r\n-NOSCRIPT three\r\n+fine\r\n"
    for at in range(len(stream) + 1):
        async with Wire() as wire:
            replies = [wire.ask() for _ in range(4)]
            await wire.say(stream[:at])
            await wire.say(stream[at:])
            answers: list[Any] = await asyncio.gather(*replies, return_exceptions=True)
            first, nested, third, fine = answers
            assert isinstance(first, ResponseError)
            assert nested[0] == 1
            assert isinstance(nested[1], ResponseError)
            assert isinstance(third, redis.exceptions.NoScriptError)
            assert fine == b"fine"
            assert sum(wire.metrics.errors.values()) == 3


async def test_undecodable_cut_at_every_byte() -> None:
    stream = b"$2\r\n\xff\xfe\r\n*2\r\n$1\r\n\xff\r\n-ERR oh\r\n+fine\r\n:1\r\n$1\r\n\xff\r\n:3\r\n"
    for at in range(len(stream) + 1):
        async with Wire() as wire:
            replies = [wire.ask(decode=True) for _ in range(3)]
            batch = wire.ask_many(3, decode=True)
            await wire.say(stream[:at])
            await wire.say(stream[at:])
            answers = await asyncio.gather(*replies, return_exceptions=True)
            assert [type(a) for a in answers[:2]] == [UnicodeDecodeError] * 2
            assert answers[2] == "fine"
            one, two, three = await batch
            assert (one, three) == (1, 3)
            assert isinstance(two, UnicodeDecodeError)


async def test_gone_callers_at_every_place() -> None:
    """Of five, each set of callers may have gone; the others get their own."""
    for gone in range(32):
        async with Wire() as wire:
            replies = [wire.ask() for _ in range(5)]
            for place, reply in enumerate(replies):
                if gone >> place & 1:
                    reply.cancel()
            await wire.say(b"+0\r\n$1\r\n1\r\n-ERR 2\r\n*1\r\n+3\r\n+4\r\n")
            for place, reply in enumerate(replies):
                if gone >> place & 1:
                    assert reply.cancelled()
                elif place == 2:
                    with pytest.raises(ResponseError, match="2"):
                        await reply
                else:
                    expected: Any = b"%d" % place
                    assert await reply == ([expected] if place == 3 else expected)
            assert await answered(wire, b"+later\r\n") == b"later"


async def answered(wire: Wire, frame: bytes) -> Any:
    reply = wire.ask()
    await wire.say(frame)
    return await reply


async def test_a_reply_cannot_answer_what_was_asked_after_it() -> None:
    """A stray reply in the read that wakes a task which asks at once: it is not the answer."""
    async with Wire() as wire:

        async def asks_again() -> list[Any]:
            return [await wire.ask(), await wire.ask()]

        task = asyncio.ensure_future(asks_again())
        await until(lambda: wire.connection.in_flight)
        await wire.say(b"+mine\r\n+stray\r\n")
        with pytest.raises(ConnectionLost):
            await task
        assert wire.connection.closed


async def test_nobody_is_woken_before_he_awaits() -> None:
    """A callback added to a reply that is in already runs later, as with every future."""
    async with Wire() as wire:
        reply = wire.ask()
        await wire.say(b"+mine\r\n")
        assert reply.done()
        called: list[Any] = []
        reply.add_done_callback(called.append)
        assert not called
        await turns(2)
        assert called == [reply]
