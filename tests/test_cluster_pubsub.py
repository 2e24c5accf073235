"""Pub/sub in a cluster: one object hears channels, shard channels and what happens to keys on every
node, wherever they move, and nothing twice."""

from __future__ import annotations

import asyncio
import gc
import re
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.exceptions import NoPermissionError, RedisClusterException

from redisutils import ConfigError, ConnectionLost, PoolClosed, RedisCluster, RedisPool
from redisutils.client import branch
from redisutils.client.branch import Subscription, may_be_event
from redisutils.testing import EmbeddedCluster, EmbeddedServer

from .clusters import cluster_pool, emptied, keys_of, other_primary, told
from .ours import until
from .servers import client_of

one_loop = pytest.mark.asyncio(loop_factories=["uvloop"])

PATTERN = "__keyspace@0__:*"


@pytest.fixture(scope="module")
def session_cluster(server_kind: str) -> Iterator[EmbeddedCluster]:
    """Another than the session's: nodes that others have seen come and go find to each other again
    by and by, and what is published meanwhile is lost."""
    with EmbeddedCluster(3, 0, server_kind) as cluster:
        for node in cluster.nodes:
            with client_of(node.url) as client, client.pubsub() as pubsub:
                pubsub.subscribe("warm")
                for other in cluster.nodes:
                    heard = None
                    while heard is None:  # until their links stand
                        told(other, "PUBLISH", "warm", other.port)
                        heard = pubsub.get_message(ignore_subscribe_messages=True, timeout=0.1)
        yield cluster


@pytest.fixture
def telling(cluster: EmbeddedCluster) -> Iterator[EmbeddedCluster]:
    """The session's cluster, whose nodes tell what happens to keys."""
    for node in cluster.nodes:
        told(node, "CONFIG", "SET", "notify-keyspace-events", "KEA")
    yield cluster
    for node in cluster.nodes:
        told(node, "CONFIG", "SET", "notify-keyspace-events", "")


@pytest.fixture(scope="module")
def own_cluster(server_kind: str) -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(3, 1, server_kind, config={"notify-keyspace-events": "KEA"}) as cluster:
        yield cluster


@pytest.fixture
async def guarded(own_cluster: EmbeddedCluster) -> EmbeddedCluster:
    """Three primaries with a replica each, which tell what happens to keys."""
    return await emptied(own_cluster)


@asynccontextmanager
async def listening(pool: RedisPool, **options: Any) -> AsyncIterator[Any]:
    async with pool.client.pubsub(**options) as pubsub:
        yield pubsub


async def confirmed(pubsub: Any, count: int) -> list[tuple[str, Any]]:
    """The next confirmations, as many as that; messages between them are passed over."""
    found: list[tuple[str, Any]] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            message = await pubsub.get_message(timeout=5)
            if message is not None and message["type"].endswith("subscribe"):
                found.append((message["type"], message["channel"]))
    return found


async def messages(pubsub: Any, count: int) -> list[Any]:
    """The next messages, as many as that: each its channel and its data."""
    found: list[Any] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=5)
            if message is not None:
                found.append((message["channel"], message["data"]))
    return found


async def silence(pubsub: Any, pool: RedisPool) -> None:
    """Nothing more comes: of what was published until now, all nodes have told."""
    channel = "end-of-test"
    await pubsub.ssubscribe(channel)
    await confirmed(pubsub, 1)
    await pubsub.subscribe(channel)
    await confirmed(pubsub, 1)
    await pool.client.publish(channel, "end")
    await pool.client.spublish(channel, "end")
    rest = await messages(pubsub, 2)
    assert rest == [(channel.encode(), b"end")] * 2
    await pubsub.unsubscribe(channel)
    await pubsub.sunsubscribe(channel)
    await confirmed(pubsub, 2)


def shard_channels(cluster: EmbeddedCluster, each: int = 1) -> list[str]:
    """Some that live on each primary."""
    found = [keys_of(cluster, node, "shard") for node in cluster.primaries]
    return [next(names) for _ in range(each) for names in found]


def home_of(pubsub: Any, cluster: EmbeddedCluster) -> EmbeddedServer:
    port = pubsub.connection._mail._home.address.port
    return next(node for node in cluster.nodes if node.port == port)


# -- hearing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"decode_responses": True}], ids=str)
@pytest.mark.parametrize("protocol", [2, 3])
async def test_all_kinds_by_one_object(
    cluster: EmbeddedCluster, options: dict[str, Any], protocol: int
) -> None:
    def text(value: str) -> Any:
        return value if options else value.encode()

    # Of its own: over the bus, the end of another's messages may come when this has begun.
    a, b = f"a:{protocol}:{len(options)}", f"b:{protocol}:{len(options)}"
    node = cluster.nodes[0]
    given: dict[str, Any] = {"host": node.host, "port": node.port, "password": cluster.password}
    async with (
        RedisCluster(**given, **options, protocol=protocol) as client,
        client.pubsub() as pubsub,
    ):
        await pubsub.subscribe(a, b)
        await pubsub.psubscribe(f"{a}*")
        shards = shard_channels(cluster, 2)
        await pubsub.ssubscribe(*shards)
        assert await confirmed(pubsub, 3) == [
            ("subscribe", text(a)),
            ("subscribe", text(b)),
            ("psubscribe", text(f"{a}*")),
        ]
        assert sorted(await confirmed(pubsub, 6)) == sorted(("ssubscribe", text(s)) for s in shards)
        assert pubsub.subscribed
        await client.publish(a, "1")
        assert await messages(pubsub, 2) == [(text(a), text("1"))] * 2
        await client.publish(b, "é")
        assert await messages(pubsub, 1) == [(text(b), text("é"))]
        for shard in shards:
            assert await client.spublish(shard, "s") == 1
            message = await pubsub.get_sharded_message(timeout=5)
            assert message == {
                "type": "smessage",
                "pattern": None,
                "channel": text(shard),
                "data": text("s"),
            }
        await pubsub.unsubscribe(a)
        await pubsub.punsubscribe()
        await pubsub.sunsubscribe(*shards[:5])
        assert len(await confirmed(pubsub, 7)) == 7
        assert set(pubsub.channels) == {text(b)}
        assert not pubsub.patterns
        assert set(pubsub.shard_channels) == {text(shards[5])}
        await client.publish(a, "2")
        await client.publish(b, "3")
        assert await messages(pubsub, 1) == [(text(b), text("3"))]


async def test_counts_as_one_server_has_them(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool, listening(pool) as pubsub:
        await pubsub.subscribe("a", "b")
        await pubsub.psubscribe(PATTERN)
        await pubsub.ssubscribe(*shard_channels(cluster))
        counts: list[tuple[str, int]] = []
        async with asyncio.timeout(5):
            while len(counts) < 6:
                message = await pubsub.get_message(timeout=5)
                counts.append((message["type"][0], message["data"]))
        assert [count for kind, count in counts if counts and kind != "s"] == [3]
        assert sorted(counts) == sorted(
            [("s", 1), ("s", 2), ("p", 3), ("s", 1), ("s", 2), ("s", 3)]
        )
        await pubsub.unsubscribe()
        await pubsub.punsubscribe()
        assert [(await pubsub.get_message(timeout=5))["data"] for _ in range(3)] == [2, 1, 0]
        await pubsub.unsubscribe()
        assert await pubsub.get_message(timeout=5) == {
            "type": "unsubscribe",
            "pattern": None,
            "channel": None,
            "data": 0,
        }


async def test_keys_of_all_primaries_are_heard_once(telling: EmbeddedCluster) -> None:
    async with cluster_pool(telling) as pool, listening(pool) as pubsub:
        await pubsub.psubscribe(PATTERN, "__key*__:set")
        await pubsub.subscribe("__keyevent@0__:del", "ordinary")
        assert len(await confirmed(pubsub, 4)) == 4
        keys = [next(keys_of(telling, node, "event")) for node in telling.primaries]
        for key in keys:
            await pool.client.set(key, 1)
            assert sorted(await messages(pubsub, 2)) == [
                (b"__keyevent@0__:set", key.encode()),
                (f"__keyspace@0__:{key}".encode(), b"set"),
            ]
            await pool.client.delete(key)
            assert sorted(await messages(pubsub, 2)) == [
                (b"__keyevent@0__:del", key.encode()),
                (f"__keyspace@0__:{key}".encode(), b"del"),
            ]
        await pool.client.publish("ordinary", "1")
        assert await messages(pubsub, 1) == [(b"ordinary", b"1")]
        await silence(pubsub, pool)


async def test_a_pattern_that_may_mean_both_hears_both_once(telling: EmbeddedCluster) -> None:
    async with cluster_pool(telling) as pool, listening(pool) as pubsub:
        await pubsub.psubscribe("__k*")
        await confirmed(pubsub, 1)
        for node in telling.primaries:
            await pool.client.publish("__kind", "m", target_nodes=f"{node.host}:{node.port}")
            assert await messages(pubsub, 1) == [(b"__kind", b"m")]
            await pool.client.set(next(keys_of(telling, node, "event")), 1)
            assert len(await messages(pubsub, 2)) == 2
        await silence(pubsub, pool)


@pytest.mark.parametrize(
    ("kind", "name", "events"),
    [
        ("psubscribe", "__keyspace@0__:*", True),
        ("psubscribe", "__keyevent@*__:expired", True),
        ("psubscribe", "__key*__:foo*", True),
        ("psubscribe", "__[k]*", True),
        ("psubscribe", "__*", True),
        ("psubscribe", "_*", False),
        ("psubscribe", "*", False),
        ("psubscribe", "prices:*", False),
        ("psubscribe", "__keys*x", True),
        ("psubscribe", "__keyx*", False),
        ("subscribe", "__keyspace@0__:k", True),
        ("subscribe", "__keyspace", False),
        ("ssubscribe", "__keyspace@0__:k", False),
    ],
)
def test_what_is_meant_to_hear_of_keys(kind: str, name: str, events: bool) -> None:
    assert may_be_event(Subscription(kind, name.encode())) is events


async def test_handlers_and_listen(telling: EmbeddedCluster) -> None:
    async with cluster_pool(telling) as pool, listening(pool) as pubsub:
        heard: list[Any] = []
        shard = shard_channels(telling)[1]
        await pubsub.subscribe(plain=heard.append)
        await pubsub.ssubscribe(**{shard: heard.append})
        await pubsub.psubscribe(**{PATTERN: heard.append})
        await confirmed(pubsub, 3)
        runner = asyncio.create_task(pubsub.run())
        await pool.client.publish("plain", 1)
        await pool.client.spublish(shard, 2)
        await pool.client.set("k", 3)
        await until(lambda: len(heard) == 3)
        assert {message["type"] for message in heard} == {"message", "smessage", "pmessage"}
        runner.cancel()
        await asyncio.wait([runner])
        await pubsub.unsubscribe()
        await pubsub.punsubscribe()
        await pubsub.sunsubscribe()
        kinds = [message["type"] async for message in pubsub.listen()]
        assert kinds == ["unsubscribe", "punsubscribe", "sunsubscribe"]
        await until(lambda: not pubsub.connection._mail._branches)


async def test_what_is_subscribed_to_again_is_not_interrupted(cluster: EmbeddedCluster) -> None:
    shard = shard_channels(cluster)[0]
    async with cluster_pool(cluster) as pool, listening(pool) as pubsub:
        await pubsub.subscribe("plain")
        await pubsub.ssubscribe(shard)
        await confirmed(pubsub, 2)
        for number in range(20):
            sent = pool.client.publish("plain", number), pool.client.spublish(shard, number)
            again = pubsub.subscribe("plain"), pubsub.ssubscribe(shard)
            await asyncio.gather(*sent, *again)
        heard = [(await pubsub.get_message(timeout=5))["type"] for _ in range(80)]
        kinds = ("message", "smessage", "subscribe", "ssubscribe")
        assert Counter(heard) == dict.fromkeys(kinds, 20)


async def test_ping_and_waiting_in_vain(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool, listening(pool) as pubsub:
        await pubsub.ssubscribe(shard_channels(cluster)[0])
        await confirmed(pubsub, 1)
        assert await pubsub.get_message() is None
        assert await pubsub.get_message(timeout=0.01) is None
        await pubsub.ping("hello")
        message = await pubsub.get_message(timeout=5)
        assert (message["type"], message["data"]) == ("pong", b"hello")


async def test_a_node_of_ones_choice(guarded: EmbeddedCluster) -> None:
    async with cluster_pool(guarded) as pool:
        await pool.client.ping()
        primary = guarded.primaries[1]
        for node in (primary, *guarded.replicas_of(primary)):
            for where in ({"node": (node.host, node.port)}, {"host": node.host, "port": node.port}):
                async with listening(pool, **where) as pubsub:
                    await pubsub.subscribe("a")
                    await pubsub.psubscribe(PATTERN)
                    await confirmed(pubsub, 2)
                    assert told(node, "PUBSUB", "CHANNELS") == ["a"]
                    await pool.client.set(next(keys_of(guarded, primary, "event")), 1)
                    assert len(await messages(pubsub, 1)) == 1
        with pytest.raises(RedisClusterException, match="is not in"):
            await pool.client.pubsub(node="127.0.0.1:1").subscribe("a")
        with pytest.raises(redis.DataError, match="both"):
            pool.client.pubsub(host="127.0.0.1")
        with pytest.raises(ConfigError, match="node="):
            pool.client.pubsub(node="nowhere")


async def test_a_refusal_is_the_readers(cluster: EmbeddedCluster) -> None:
    for node in cluster.nodes:
        told(node, "ACL", "SETUSER", "few", "on", ">few", "+@all", "~*", "resetchannels", "&a*")
    few = cluster_pool(cluster, username="few", password="few")
    async with few as pool, listening(pool) as pubsub:
        await pubsub.subscribe("allowed", "b")
        with pytest.raises(NoPermissionError):
            await confirmed(pubsub, 1)
        await pubsub.subscribe("allowed")
        await pubsub.ssubscribe("a{shard}")
        assert len(await confirmed(pubsub, 2)) == 2
        await pool.client.publish("allowed", "m")
        assert await messages(pubsub, 1) == [(b"allowed", b"m")]
    for node in cluster.nodes:
        told(node, "ACL", "DELUSER", "few")


# -- slots that move, nodes that fail ----------------------------------------------------------


async def test_shard_channels_follow_their_slots(cluster: EmbeddedCluster) -> None:
    channel, *others = shard_channels(cluster)
    home, away = cluster.node_for(channel), other_primary(cluster, channel)
    async with cluster_pool(cluster) as pool, listening(pool) as pubsub:
        await pubsub.ssubscribe(channel, *others)
        await confirmed(pubsub, 3)
        for number, target in enumerate((away, home) * 2):
            await cluster.move_slot(cluster.slot_of(channel), target)
            assert await confirmed(pubsub, 1) == [("ssubscribe", channel.encode())]
            assert told(target, "PUBSUB", "SHARDCHANNELS", channel) == [channel]
            for each in (channel, *others):
                assert await pool.client.spublish(each, number) == 1
                assert await messages(pubsub, 1) == [(each.encode(), str(number).encode())]
        await silence(pubsub, pool)
        assert set(pubsub.shard_channels) == {each.encode() for each in (channel, *others)}


async def test_nothing_comes_twice_while_slots_move(cluster: EmbeddedCluster) -> None:
    channels = shard_channels(cluster, 2)
    moving = channels[0]
    home, away = cluster.node_for(moving), other_primary(cluster, moving)
    async with cluster_pool(cluster) as pool, listening(pool) as pubsub:
        await pubsub.ssubscribe(*channels)
        await confirmed(pubsub, len(channels))
        heard: Counter[tuple[bytes, bytes]] = Counter()
        sent: list[tuple[bytes, bytes]] = []
        ended = asyncio.Event()

        async def publish(channel: str) -> None:
            number = 0
            while not ended.is_set():
                number += 1
                await pool.client.spublish(channel, number)
                sent.append((channel.encode(), str(number).encode()))

        async def hear() -> None:
            async for message in pubsub.listen():
                if message["type"] == "smessage":
                    heard[message["channel"], message["data"]] += 1

        publishers = [asyncio.create_task(publish(channel)) for channel in channels]
        hearer = asyncio.create_task(hear())
        for target in (away, home, away, home):
            await cluster.move_slot(cluster.slot_of(moving), target)
        ended.set()
        await asyncio.gather(*publishers)
        stayed = [one for one in sent if one[0] != moving.encode()]
        await until(lambda: all(one in heard for one in stayed), "all of what stayed")
        # Of what moved, what was published last is heard again.
        before = len(heard)
        await pool.client.spublish(moving, "last")
        await until(lambda: len(heard) > before)
        assert set(heard.values()) == {1}
        hearer.cancel()
        await asyncio.wait([hearer])


async def test_all_is_heard_after_a_replica_has_taken_over(guarded: EmbeddedCluster) -> None:
    async with cluster_pool(guarded) as pool, listening(pool) as pubsub:
        channels = shard_channels(guarded)
        await pubsub.ssubscribe(*channels)
        await pubsub.subscribe("plain")
        await pubsub.psubscribe(PATTERN)
        await confirmed(pubsub, 5)
        for channel in channels:
            old = guarded.node_for(channel)
            (new,) = guarded.replicas_of(old)
            await guarded.failover(new)
            await until_heard(pool, pubsub, channel, guarded)
            for number in range(3):
                await pool.client.spublish(channel, number)
                assert await messages(pubsub, 1) == [(channel.encode(), str(number).encode())]
            key = next(keys_of(guarded, new, "event"))
            await pool.client.set(key, 1)
            assert await messages(pubsub, 1) == [(f"__keyspace@0__:{key}".encode(), b"set")]
        await pool.client.publish("plain", "m")
        assert await messages(pubsub, 1) == [(b"plain", b"m")]
        await silence(pubsub, pool)


async def until_heard(pool: RedisPool, pubsub: Any, channel: str, cluster: EmbeddedCluster) -> None:
    """Publish and change keys until both are heard of the owner of ``channel``, and read all that
    comes of it."""
    key = next(keys_of(cluster, cluster.node_for(channel), "probe"))
    missing = {channel.encode(), f"__keyspace@0__:{key}".encode(), b"plain"}
    wanted = missing & {*pubsub.shard_channels, f"__keyspace@0__:{key}".encode(), *pubsub.channels}
    async with asyncio.timeout(20):
        while wanted:
            await pool.client.spublish(channel, "probe")
            await pool.client.set(key, 1)
            home = home_of(pubsub, cluster)
            await pool.client.publish("plain", "probe", target_nodes=(home.host, home.port))
            while (message := await pubsub.get_message(timeout=0.05)) is not None:
                wanted -= {message["channel"]} if "message" in message["type"] else set()
    while await pubsub.get_message(timeout=0.2) is not None:
        pass


async def test_a_home_that_became_a_replica_tells_of_no_keys(guarded: EmbeddedCluster) -> None:
    async with cluster_pool(guarded) as pool, listening(pool) as pubsub:
        await pubsub.psubscribe("__keys*")
        await confirmed(pubsub, 1)
        home = home_of(pubsub, guarded)
        (new,) = guarded.replicas_of(home)
        keys = keys_of(guarded, home, "event")
        key, probe = next(keys), next(keys)
        event, unheard = (f"__keyspace@0__:{name}".encode() for name in (key, probe))
        await guarded.failover(new)
        await pool.client.set(probe, 1)  # and so the map is looked at
        await confirmed(pubsub, 1)  # at the new primary as well
        # A refusal tells of the new primary alone; that the old one follows it, the whole map does.
        mail = pubsub.connection._mail
        await until(lambda: mail._home.primary is not None, "the whole map")
        for number in range(5):
            await pool.client.set(key, number)
            await pool.client.publish("__keysmith", number)
        heard: Counter[bytes] = Counter()
        while heard[event] < 5 or heard[b"__keysmith"] < 5:
            heard[(await messages(pubsub, 1))[0][0]] += 1
        del heard[unheard]  # or not
        assert heard == {event: 5, b"__keysmith": 5}
        await guarded.wait_in_sync()
        await silence(pubsub, pool)


async def test_a_home_that_moves_is_not_heard_twice(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool, listening(pool) as pubsub:
        await pubsub.ssubscribe(*shard_channels(cluster))  # so that all nodes stay connected
        await pubsub.subscribe("plain")
        await confirmed(pubsub, 4)
        subscriptions = pubsub.connection._mail
        nodes = list(subscriptions._branches)
        heard: Counter[bytes] = Counter()
        witnesses: list[Any] = [pool.client.pubsub(node=node.address) for node in nodes]
        for witness in witnesses:
            await witness.subscribe("plain")
            await confirmed(witness, 1)
        for turn in range(30):
            subscriptions._home = nodes[turn % 3]
            subscriptions.settle()
            await asyncio.gather(*(pool.client.publish("plain", f"{turn}:{n}") for n in range(5)))
            for witness in witnesses:  # no node comes with it later
                await messages(witness, 5)
            while (message := await pubsub.get_message(timeout=0)) is not None:
                heard[message["data"]] += message["type"] == "message"
        assert set(heard.values()) <= {0, 1}, heard
        for witness in witnesses:
            await witness.aclose()
        home = home_of(pubsub, cluster)
        for node in cluster.nodes:
            expected = ["plain"] if node is home else []
            there = partial(told, node, "PUBSUB", "CHANNELS")
            await until(partial(lambda ask, e: ask() == e, there, expected))
        await pool.client.publish("plain", "end")
        await until_message(pubsub, b"end")
        await silence(pubsub, pool)


async def until_message(pubsub: Any, data: bytes) -> None:
    """Read until this comes."""
    while (await messages(pubsub, 1))[0][1] != data:
        pass


@one_loop
async def test_all_is_heard_after_a_node_was_killed(guarded: EmbeddedCluster) -> None:
    async with cluster_pool(guarded) as pool, listening(pool) as pubsub:
        await pubsub.subscribe("plain")
        await pubsub.psubscribe(PATTERN)
        await confirmed(pubsub, 2)
        victim = home_of(pubsub, guarded)
        channel = next(keys_of(guarded, victim, "shard"))
        others = [name for name in shard_channels(guarded) if guarded.node_for(name) is not victim]
        await pubsub.ssubscribe(channel, *others)
        await confirmed(pubsub, 3)
        await victim.kill()
        # What does not live there comes on at once; plain channels, from another node.
        for name in others:
            await pool.client.spublish(name, "still")
            assert await messages(pubsub, 1) == [(name.encode(), b"still")]
        await until(lambda: home_of(pubsub, guarded) is not victim)
        home = home_of(pubsub, guarded)
        await until(lambda: told(home, "PUBSUB", "CHANNELS") == ["plain"])
        await pool.client.publish("plain", "again", target_nodes=(home.host, home.port))
        assert await messages(pubsub, 1) == [(b"plain", b"again")]
        await guarded.wait_until_ok()
        await until_heard(pool, pubsub, channel, guarded)
        await pool.client.spublish(channel, "at last")
        assert await messages(pubsub, 1) == [(channel.encode(), b"at last")]
        await silence(pubsub, pool)
        await victim.restart()
        await guarded.wait_until_ok()


@one_loop
async def test_a_connection_that_was_cut_comes_back(telling: EmbeddedCluster) -> None:
    async with cluster_pool(telling, client_name="listener") as pool, listening(pool) as pubsub:
        channels = shard_channels(telling)
        await pubsub.ssubscribe(*channels)
        await pubsub.subscribe("plain")
        await pubsub.psubscribe(PATTERN)
        await confirmed(pubsub, 5)
        for node in telling.primaries:
            told(node, "CLIENT", "KILL", "TYPE", "pubsub")
        assert len(await confirmed(pubsub, 5)) == 5
        for channel in channels:
            await pool.client.spublish(channel, 1)
        await pool.client.publish("plain", 1)
        await pool.client.set("k", 1)
        assert len(await messages(pubsub, 5)) == 5
        await silence(pubsub, pool)


@one_loop
async def test_a_silent_node_is_left_for_another(cluster: EmbeddedCluster) -> None:
    settings: dict[str, Any] = {"health_check_interval": 0.1, "command_timeout": 0.3}
    async with (
        cluster.proxied() as network,
        cluster_pool(cluster, network, **settings) as pool,
        cluster_pool(cluster) as other,
        listening(pool) as pubsub,
    ):
        await pubsub.subscribe("plain")
        await confirmed(pubsub, 1)
        home = pubsub.connection._mail._home.address.port
        (proxy,) = [each for each in network.proxies.values() if each.port == home]
        proxy.blackhole()
        assert await confirmed(pubsub, 1) == [("subscribe", b"plain")]
        assert pubsub.connection._mail._home.address.port != home
        await other.client.publish("plain", "m")
        assert await messages(pubsub, 1) == [(b"plain", b"m")]
        network.restore()


@one_loop
async def test_where_nobody_can_be_reached_nothing_is_subscribed(cluster: EmbeddedCluster) -> None:
    settings: dict[str, Any] = {"command_timeout": 0.3, "max_retries": 0}
    async with (
        cluster.proxied() as network,
        cluster_pool(cluster, network, **settings) as pool,
        listening(pool) as pubsub,
    ):
        await pool.client.ping()
        for proxy in network.proxies.values():
            proxy.refuse()
            proxy.close_all()
        channel, *_ = shard_channels(cluster)
        for subscribe in (pubsub.subscribe, pubsub.ssubscribe):
            with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
                await subscribe(channel)
        assert not pubsub.subscribed
        assert not pubsub.connection._mail._wanted
        # Where others can be reached, they are subscribed to.
        other = next(name for name in shard_channels(cluster) if name != channel)
        network.proxies[cluster.node_for(other)].restore()
        await pubsub.ssubscribe(other)
        with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
            await pubsub.ssubscribe(channel)
        assert set(pubsub.shard_channels) == {other.encode()}
        network.restore()
        await pubsub.ssubscribe(channel)
        async with asyncio.timeout(10):
            while True:  # first is told what went wrong meanwhile
                try:
                    if await confirmed(pubsub, 1) == [("ssubscribe", channel.encode())]:
                        break
                except redis.ConnectionError:
                    pass
        await pool.client.spublish(channel, "m")
        assert await messages(pubsub, 1) == [(channel.encode(), b"m")]


@one_loop
async def test_slots_are_followed_behind_a_nat(cluster: EmbeddedCluster) -> None:
    channel, *_ = shard_channels(cluster)
    home, away = cluster.node_for(channel), other_primary(cluster, channel)
    async with (
        cluster.proxied() as network,
        cluster_pool(cluster, network) as pool,
        listening(pool) as pubsub,
    ):
        await pubsub.ssubscribe(channel)
        await confirmed(pubsub, 1)
        for target in (away, home):
            await cluster.move_slot(cluster.slot_of(channel), target)
            await confirmed(pubsub, 1)
            assert await pool.client.spublish(channel, target.port) == 1
            assert await messages(pubsub, 1) == [(channel.encode(), str(target.port).encode())]
        for place in ((home.host, home.port), (home.host, network.proxies[home].port)):
            async with pool.get(node=place) as conn:  # as announced, and as reached from here
                assert (await conn.info("server"))["tcp_port"] == home.port
            assert (await pool.client.info("server", target_nodes=place))["tcp_port"] == home.port


# -- life --------------------------------------------------------------------------------------


def subscribers(cluster: EmbeddedCluster) -> int:
    """Connections that are subscribed to something."""
    count = 0
    for node in cluster.nodes:
        listed = str(told(node, "CLIENT", "LIST", "TYPE", "pubsub"))
        count += len(re.findall(r"\bid=|'id':", listed))
    return count


async def test_nothing_is_left_behind(telling: EmbeddedCluster) -> None:
    async with cluster_pool(telling) as pool:
        pubsub: Any = pool.client.pubsub()
        await pubsub.psubscribe(PATTERN)
        await confirmed(pubsub, 1)
        assert subscribers(telling) == 3
        await pubsub.aclose()
        await until(lambda: subscribers(telling) == 0)
        # It can be used again, and be dropped without a word.
        await pubsub.ssubscribe(*shard_channels(telling))
        assert len(await confirmed(pubsub, 3)) == 3
        assert subscribers(telling) == 3
        del pubsub
        gc.collect()
        await until(lambda: subscribers(telling) == 0)
        # Only what is needed is kept.
        async with listening(pool) as pubsub:
            await pubsub.psubscribe(PATTERN)
            await pubsub.subscribe("a")
            await pubsub.punsubscribe(PATTERN)
            await until(lambda: subscribers(telling) == 1)


async def test_the_end_of_the_pool_is_told(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool:
        pubsub: Any = pool.client.pubsub()
        await pubsub.subscribe("a")
        await confirmed(pubsub, 1)
        waiting = asyncio.create_task(pubsub.get_message(timeout=None))
        await asyncio.sleep(0)
    with pytest.raises((PoolClosed, ConnectionLost)):
        await waiting
    await pubsub.aclose()


async def test_a_thousand_channels(cluster: EmbeddedCluster) -> None:
    names = [f"many:{number}" for number in range(1000)]
    async with cluster_pool(cluster) as pool, listening(pool) as pubsub:
        await pubsub.ssubscribe(*names)
        for name in names[:100]:
            await pubsub.subscribe(name)
        assert len(await confirmed(pubsub, 1100)) == 1100
        await asyncio.gather(*(pool.client.spublish(name, "m") for name in names))
        assert {channel.decode() for channel, _ in await messages(pubsub, 1000)} == set(names)
        await pubsub.sunsubscribe()
        assert len(await confirmed(pubsub, 1000)) == 1000


def test_a_branch_knows_what_an_answer_is_about() -> None:
    one, two = Subscription("ssubscribe", b"a"), Subscription("ssubscribe", b"b")
    stem: Any = object.__new__(branch.Branch)
    stem.held, stem.told = {one, two}, set()
    stem._owed = deque([(True, {one, two}), (False, {one})])
    assert stem.confirmed(True, one)
    assert not stem.confirmed(False, two)  # the server's own doing
    assert stem.held == {one}
    assert stem.confirmed(True, two)
    assert not stem.told  # one was withdrawn later
    stem.held.discard(one)
    assert stem.confirmed(False, one)  # the server's own doing, but wanted
    assert not stem._owed
    stem._owed = deque([(True, {two})])
    assert stem.refused(one.slot) is None  # what was withdrawn, and had ended
    stem.held.add(two)
    assert stem.refused(two.slot) == (True, {two})
    assert not stem.held
    stem.held.add(one)
    stem._owed = deque([(True, {one})])
    assert stem.confirmed(True, one)
    assert stem.told == {one}
    assert stem.refused(None) is None
