"""Pub/sub: it takes a connection of its own, comes back by itself, and bounds what it keeps."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
from redis.asyncio.client import PubSub

from redisutils import LeaseReleased, Redis
from redisutils.client import inbox
from redisutils.testing import EmbeddedServer, FaultProxy

from .ours import client_at, clients_named, pool_at, until

NAME = "subscriber"

both_protocols = pytest.mark.parametrize("protocol", [2, 3])


@asynccontextmanager
async def subscribed(client: Redis, *channels: str, **options: Any) -> AsyncIterator[PubSub]:
    """A subscription that the server has confirmed."""
    async with client.pubsub(**options) as pubsub:
        await pubsub.subscribe(*channels)
        for _ in channels:
            assert await pubsub.get_message(timeout=5)
        yield pubsub


async def next_message(pubsub: PubSub) -> Any:
    """The next message that is no confirmation; fails rather than wait for ever."""
    async with asyncio.timeout(5):
        while True:
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=5)
            if message is not None:
                return message


def another_subscriber(admin: redis.Redis, than: str) -> bool:
    return len(subscribers(admin) - {than}) == 1


def subscribers(admin: redis.Redis) -> set[str]:
    """The numbers of the connections that have subscribed to patterns."""
    return {entry["id"] for entry in clients_named(admin, NAME) if int(entry["psub"])}


@both_protocols
@pytest.mark.parametrize("decode", [False, True])
async def test_subscribing_three_ways(
    clean_server: EmbeddedServer, protocol: int, decode: bool
) -> None:
    def text(value: str) -> Any:
        return value if decode else value.encode()

    options: dict[str, Any] = {"protocol": protocol, "decode_responses": decode}
    async with client_at(clean_server, **options) as client, client.pubsub() as pubsub:
        await pubsub.subscribe("news")
        await pubsub.psubscribe("n*")
        await pubsub.ssubscribe("shard")
        confirmed = [await pubsub.get_message(timeout=5) for _ in range(3)]
        assert [(c["type"], c["channel"], c["data"]) for c in confirmed if c] == [
            ("subscribe", text("news"), 1),
            ("psubscribe", text("n*"), 2),
            ("ssubscribe", text("shard"), 1),
        ]
        assert await client.publish("news", "é") == 2
        assert await client.spublish("shard", "s") == 1
        got = [await next_message(pubsub) for _ in range(3)]
        assert {(m["type"], m["pattern"], m["channel"], m["data"]) for m in got} == {
            ("message", None, text("news"), text("é")),
            ("pmessage", text("n*"), text("news"), text("é")),
            ("smessage", None, text("shard"), text("s")),
        }
        await pubsub.unsubscribe()
        await pubsub.punsubscribe()
        await pubsub.sunsubscribe()
        left = [await pubsub.get_message(timeout=5) for _ in range(3)]
        assert {m["type"] for m in left if m} == {"unsubscribe", "punsubscribe", "sunsubscribe"}
        assert not pubsub.subscribed
        assert await client.publish("news", "nobody") == 0


@both_protocols
async def test_handlers_are_called(
    clean_server: EmbeddedServer, admin: redis.Redis, protocol: int
) -> None:
    seen: list[Any] = []

    async def later(message: Any) -> None:
        await asyncio.sleep(0)
        seen.append(("async", message["data"]))

    async with client_at(clean_server, protocol=protocol) as client, client.pubsub() as pubsub:
        await pubsub.subscribe(plain=lambda m: seen.append(("sync", m["data"])), later=later)
        task = asyncio.create_task(pubsub.run(poll_timeout=5))
        await until(lambda: admin.pubsub_numsub("later") == [("later", 1)])
        await client.publish("later", 1)
        await client.publish("plain", 2)
        await until(lambda: len(seen) == 2)
        assert seen == [("async", b"1"), ("sync", b"2")]
        task.cancel()
        await asyncio.wait([task])


@both_protocols
async def test_get_message_waits_as_long_as_it_says(
    clean_server: EmbeddedServer, protocol: int
) -> None:
    loop = asyncio.get_running_loop()
    async with (
        client_at(clean_server, protocol=protocol, socket_timeout=0.05) as client,
        subscribed(client, "news") as pubsub,
    ):
        assert await pubsub.get_message() is None  # at once
        started = loop.time()
        assert await pubsub.get_message(timeout=0.1) is None  # past the socket_timeout
        assert 0.09 <= loop.time() - started < 2
        waiting = asyncio.create_task(pubsub.get_message(timeout=None))
        await asyncio.wait([waiting], timeout=0.1)
        assert not waiting.done()  # no timeout cuts it
        await client.publish("news", "late")
        message = await waiting
        assert message is not None
        assert message["data"] == b"late"


@both_protocols
async def test_listen(clean_server: EmbeddedServer, protocol: int) -> None:
    async with (
        client_at(clean_server, protocol=protocol) as client,
        subscribed(client, "news") as pubsub,
    ):
        for number in range(100):
            await client.publish("news", number)
        received = []
        async with asyncio.timeout(5):
            async for message in pubsub.listen():
                received.append(int(message["data"]))
                if len(received) == 100:
                    break
        assert received == list(range(100))


async def test_it_holds_one_connection_and_gives_it_back(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with pool_at(clean_server, pool_max_size=2, client_name=NAME) as pool:
        await pool.client.ping()
        for _ in range(5):
            async with subscribed(pool.client, "news"):
                assert pool.status().size == 2
            assert (pool.status().size, pool.status().waiting) == (1, 0)
            async with pool.get(timeout=0):
                pass
        await until(lambda: len(clients_named(admin, NAME)) <= 2)
        assert admin.pubsub_numsub("news") == [("news", 0)]


@both_protocols
@pytest.mark.parametrize("how", ["kill", "network"])
async def test_it_comes_back_and_subscribes_again(
    clean_server: EmbeddedServer,
    proxy: FaultProxy,
    admin: redis.Redis,
    protocol: int,
    how: str,
) -> None:
    options: dict[str, Any] = {"protocol": protocol, "client_name": NAME}
    async with (
        client_at(clean_server, proxy, **options) as client,
        subscribed(client, "news", "more") as pubsub,
    ):
        await pubsub.psubscribe("w*")
        assert await pubsub.get_message(timeout=5)
        for round_ in range(2):
            (before,) = subscribers(admin)
            if how == "kill":
                admin.client_kill_filter(_id=before)
            else:
                proxy.reset()
            waiting = asyncio.create_task(next_message(pubsub))
            await until(functools.partial(another_subscriber, admin, before))
            await until(lambda: admin.pubsub_numsub("news", "more") == [("news", 1), ("more", 1)])
            await until(lambda: admin.pubsub_numpat() == 1)
            admin.publish("weather", round_)
            message = await waiting
            assert (message["type"], message["data"]) == ("pmessage", b"%d" % round_)


async def test_who_notices_a_loss_together_connects_once(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with pool_at(clean_server, pool_max_size=5, client_name=NAME) as pool:
        async with subscribed(pool.client, "a") as pubsub:
            lost: Any = pubsub.connection
            admin.client_kill_filter(_type="pubsub")
            await until(lambda: not lost.is_connected)
            await asyncio.gather(
                pubsub.subscribe("b"), pubsub.subscribe("c"), pubsub.get_message(timeout=5)
            )
            await until(lambda: dict(admin.pubsub_numsub("a", "b", "c")) == dict.fromkeys("abc", 1))
            assert pool.status().size == 1
        assert pool.status().size == 0


async def test_it_waits_for_a_server_that_is_away(
    clean_server: EmbeddedServer, proxy: FaultProxy, admin: redis.Redis
) -> None:
    async with (
        client_at(clean_server, proxy, client_name=NAME) as client,
        subscribed(client, "news") as pubsub,
    ):
        accepted = proxy.accepted
        proxy.refuse()
        proxy.reset()
        waiting = asyncio.create_task(next_message(pubsub))
        await until(lambda: admin.pubsub_numsub("news") == [("news", 0)])
        proxy.restore()
        await proxy.wait_accepted(accepted + 1)
        await until(lambda: admin.pubsub_numsub("news") == [("news", 1)])
        admin.publish("news", "back")
        assert (await waiting)["data"] == b"back"


async def test_cancelling_a_reader_leaves_the_subscription(
    clean_server: EmbeddedServer,
) -> None:
    async with client_at(clean_server) as client, subscribed(client, "news") as pubsub:
        for number in range(3):
            waiting = asyncio.create_task(next_message(pubsub))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            await client.publish("news", number)
            assert (await next_message(pubsub))["data"] == b"%d" % number


@both_protocols
async def test_closing_with_a_reader_waiting(clean_server: EmbeddedServer, protocol: int) -> None:
    async with client_at(clean_server, protocol=protocol) as client:
        async with pool_of_readers(client) as (pubsub, reader):
            await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py's
            done, _ = await asyncio.wait([reader], timeout=5)
            assert done, "the reader hangs"
            with pytest.raises(LeaseReleased, match="closed while it was read"):
                reader.result()
        assert not client.connection_pool._lent
        assert await client.publish("news", "x") == 0


@asynccontextmanager
async def pool_of_readers(client: Redis) -> AsyncIterator[tuple[PubSub, asyncio.Task[Any]]]:
    async with subscribed(client, "news") as pubsub:
        reader = asyncio.create_task(pubsub.get_message(timeout=None))
        await asyncio.sleep(0)
        try:
            yield pubsub, reader
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)


@pytest.fixture
def small_inbox(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(inbox, "CAPACITY", 64)
    return 64


@both_protocols
async def test_a_slow_reader_keeps_a_bounded_number(
    clean_server: EmbeddedServer, protocol: int, small_inbox: int
) -> None:
    """What it does not take stays in the socket and the server, and nothing is lost or mixed up."""
    count, size = 300, 20_000
    async with (
        client_at(clean_server, protocol=protocol) as client,
        subscribed(client, "news") as pubsub,
    ):
        connection: Any = pubsub.connection
        for number in range(count):
            await client.publish("news", f"{number}:".ljust(size, "x"))
        # One read of the socket may hold more than fits; no second one is made.
        assert len(connection._mail) <= small_inbox + 256 * 1024 // size + 1
        for number in range(count):
            message = await next_message(pubsub)
            assert message["data"].startswith(b"%d:" % number)


@both_protocols
async def test_a_slow_reader_keeps_a_bounded_number_of_bytes(
    clean_server: EmbeddedServer, protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "CAPACITY_BYTES", 200_000)
    count, size = 60, 20_000
    async with (
        client_at(clean_server, protocol=protocol) as client,
        subscribed(client, "news") as pubsub,
    ):
        connection: Any = pubsub.connection
        for number in range(count):
            await client.publish("news", f"{number}:".ljust(size, "x"))
        await until(lambda: len(connection._mail) >= 10)
        assert len(connection._mail) <= 10 + 256 * 1024 // size + 1
        for number in range(count):
            message = await next_message(pubsub)
            assert message["data"].startswith(b"%d:" % number)


async def test_a_flood_is_not_kept_in_memory(
    clean_server: EmbeddedServer, small_inbox: int
) -> None:
    async with client_at(clean_server) as client, subscribed(client, "news") as pubsub:
        connection: Any = pubsub.connection
        pipe: Any = client.pipeline(transaction=False)
        for _ in range(20_000):
            pipe.publish("news", "x")
        await pipe.execute()
        await until(lambda: len(connection._mail) >= small_inbox)
        # As many small ones as one read of a socket brings.
        assert len(connection._mail) <= small_inbox + 256 * 1024 // 30


async def test_ping_and_health_checks(clean_server: EmbeddedServer) -> None:
    async with (
        client_at(clean_server, health_check_interval=1) as client,
        subscribed(client, "news") as pubsub,
    ):
        connection: Any = pubsub.connection
        connection.next_health_check = 0.1  # overdue
        assert await pubsub.get_message(timeout=0.2) is None  # the answer is swallowed
        await pubsub.ping("hello")
        message = await pubsub.get_message(timeout=5)
        assert message is not None
        assert (message["type"], message["data"]) == ("pong", b"hello")


@both_protocols
@pytest.mark.parametrize("how", ["get_message", "listen"])
@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_subscription_that_fell_silent_comes_back(
    proxy: FaultProxy, clean_server: EmbeddedServer, admin: redis.Redis, protocol: int, how: str
) -> None:
    """Its server is gone without a word, as behind a firewall that forgot the connection."""
    options: dict[str, Any] = {"health_check_interval": 0.1, "socket_timeout": 0.2}
    heard: list[Any] = []

    async def hear(pubsub: PubSub) -> None:
        messages = pubsub.listen()
        while b"back" not in heard:
            message: Any = None
            if how == "listen":
                message = await anext(messages)
            else:
                message = await pubsub.get_message(timeout=0.05)
            if message is not None:
                heard.append(message["data"])

    async with (
        client_at(clean_server, proxy, protocol=protocol, **options) as client,
        client_at(clean_server) as speaker,
        subscribed(client, "news") as pubsub,
    ):
        hearing = asyncio.create_task(hear(pubsub))
        proxy.blackhole()
        proxy.restore()
        await until(lambda: proxy.active == 1 and proxy.accepted > 1, "another connection")
        await until(lambda: admin.pubsub_numsub("news") == [("news", 1)], "another subscription")
        await speaker.publish("news", "back")
        async with asyncio.timeout(5):
            await hearing
        assert {one for one in heard if isinstance(one, bytes)} == {b"back"}


@both_protocols
@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_subscription_without_news_is_left_alone(
    proxy: FaultProxy, clean_server: EmbeddedServer, protocol: int, decode: bool
) -> None:
    options: dict[str, Any] = {"health_check_interval": 0.03, "socket_timeout": 0.2}
    async with (
        client_at(clean_server, proxy, protocol=protocol, decode_responses=decode, **options) as c,
        subscribed(c, "news") as pubsub,
    ):
        accepted = proxy.accepted
        pings = proxy.to_server.forwarded
        assert await pubsub.get_message(timeout=0.3) is None
        assert proxy.to_server.forwarded > pings
        assert proxy.accepted == accepted


async def test_the_client_can_be_closed_before_the_subscription(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    client = client_at(clean_server, client_name=NAME)
    pubsub = client.pubsub()
    await pubsub.subscribe("news")
    assert await pubsub.get_message(timeout=5)
    await client.aclose()
    await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py's
    await until(lambda: not clients_named(admin, NAME), "the end of its connections")
