"""A connection of one's own in a cluster goes where its keys are, as long as it holds no state."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis
from redis.exceptions import WatchError

from redisutils import ConfigError, CrossSlot, LeaseReleased, PoolTimeout, RedisCluster, RedisPool
from redisutils.client.roaming import RoamingConnection
from redisutils.testing import EmbeddedCluster, EmbeddedServer
from redisutils.topology.cluster.cluster import Cluster

from .clusters import cluster_pool, keys_of, other_primary, told
from .ours import pool_at


def own(pool: RedisPool, *args: Any, **places: Any) -> Any:
    """``pool.get()``, whose methods redis-py types for its blocking client, too."""
    return pool.get(*args, **places)


def ports(connection: Any) -> int:
    return int(connection.node.rpartition(":")[2])


def a_key_of_each(cluster: EmbeddedCluster) -> list[str]:
    return [next(keys_of(cluster, node)) for node in cluster.primaries]


def shown_by(pool: RedisPool) -> Any:
    client = pool.client
    assert isinstance(client, RedisCluster)
    return client.get_nodes()


def lent(pool: RedisPool) -> int:
    """How many connections callers have: lanes have others."""
    server = pool.server
    assert isinstance(server, Cluster)
    opened = [node.opened for node in server.nodes.values() if node.opened is not None]
    lanes = sum(len(one.snapshot().lanes) for one in opened)
    return sum(one.pool.in_use for one in opened) - lanes


async def test_it_goes_to_each_keys_owner(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool:
        async with own(pool) as conn:
            assert isinstance(conn, RoamingConnection)
            for key in a_key_of_each(cluster) * 2:
                assert await conn.execute("SET", key, "v")
                assert ports(conn) == cluster.node_for(key).port
                assert await conn.get(key) == b"v"
                assert await conn.lpush(f"list:{{{key}}}", 1) >= 1
                popped = await conn.blpop([f"list:{{{key}}}"], 1)
                assert popped == (f"list:{{{key}}}".encode(), b"1")
                assert lent(pool) == 1
            assert conn.node in repr(conn)
            where = conn.node
            await conn.ping()
            await conn.execute("ROLE")
            assert conn.node == where
        assert lent(pool) == 0


async def test_a_key_says_where_it_begins(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool:
        for key in a_key_of_each(cluster):
            for spelt in (key, key.encode()):
                async with own(pool, key=spelt) as conn:
                    assert ports(conn) == cluster.node_for(key).port
                    # So that what has no key is done there.
                    assert int((await conn.config_get("port"))["port"]) == ports(conn)
                    await conn.execute("MULTI")
                    await conn.execute("SET", key, "v")
                    assert await conn.execute("EXEC") == [b"OK"]


async def test_a_node_is_not_left(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool:
        await pool.client.ping()
        for node in cluster.primaries:
            shown = next(one for one in shown_by(pool) if one.port == node.port)
            for spelt in (f"{node.host}:{node.port}", (node.host, node.port), shown):
                conn = await own(pool, node=spelt)
                assert (await conn.info("server"))["tcp_port"] == node.port
                key = next(keys_of(cluster, node))
                assert await conn.set(key, "v")
                await conn.aclose()
        async with own(pool, node=f"{cluster.nodes[0].host}:{cluster.nodes[0].port}") as conn:
            foreign = next(keys_of(cluster, cluster.nodes[1]))
            with pytest.raises(redis.ResponseError, match=r"MOVED|pool\.get\(key="):
                await conn.get(foreign)


async def test_places_that_are_none(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool:
        for wrong in ("127.0.0.1:1", ("127.0.0.1", 1)):
            with pytest.raises(ConfigError, match=r"'127\.0\.0\.1:1' is not in the cluster"):
                await own(pool, node=wrong)
        for no_node in ("127.0.0.1", 7000, object()):
            with pytest.raises(ConfigError, match="node="):
                own(pool, node=no_node)
        with pytest.raises(ConfigError, match="one of them"):
            own(pool, key="k", node="127.0.0.1:1")


async def test_places_of_one_server(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        async with own(pool, key="k") as conn:
            assert await conn.set("k", "v")
            assert not isinstance(conn, RoamingConnection)
        async with own(pool, node=(clean_server.host, clean_server.port)) as conn:
            assert await conn.get("k") == b"v"
        with pytest.raises(ConfigError, match=f"not what this pool.*:{clean_server.port}"):
            await own(pool, node="127.0.0.1:1")


# -- state ---------------------------------------------------------------------------------


async def test_watching_stays_with_its_slot(cluster: EmbeddedCluster) -> None:
    mine, foreign, third = a_key_of_each(cluster)
    async with cluster_pool(cluster) as pool, own(pool) as conn:
        await conn.set(foreign, 1)
        await conn.execute("WATCH", mine)
        where = conn.node
        for command in (("GET", foreign), ("SET", third, 1), ("WATCH", foreign)):
            with pytest.raises(CrossSlot, match=r"holds state.*pool\.get\(key="):
                await conn.execute(*command)
        assert conn.node == where
        await conn.execute("MULTI")
        await conn.execute("INCR", mine)
        with pytest.raises(CrossSlot):
            await conn.execute("INCR", foreign)
        assert await conn.execute("EXEC") == [1]
        for end in ("UNWATCH", "DISCARD"):
            assert await conn.get(foreign) == b"1"  # free again
            await conn.execute("WATCH", mine)
            if end == "DISCARD":
                await conn.execute("MULTI")
            await conn.execute(end)
        assert await conn.get(third) is None
        with pytest.raises(CrossSlot, match="one command"):
            await conn.mget([mine, foreign])


async def test_settings_stay_with_their_connection(cluster: EmbeddedCluster) -> None:
    mine, foreign, _ = a_key_of_each(cluster)
    async with cluster_pool(cluster) as pool, own(pool, key=mine) as conn:
        await conn.execute("CLIENT", "NO-EVICT", "ON")
        assert await conn.get(mine) is None
        with pytest.raises(CrossSlot):
            await conn.get(foreign)
        assert await conn.get(mine) is None


async def test_one_that_was_taken_stays(cluster: EmbeddedCluster) -> None:
    mine, foreign, _ = a_key_of_each(cluster)
    async with cluster_pool(cluster) as pool:
        conn = (await own(pool, key=mine)).take()
        assert await conn.get(mine) is None
        with pytest.raises(CrossSlot):
            await conn.get(foreign)
        await conn.aclose()
        with pytest.raises(LeaseReleased):
            await conn.get(mine)


async def test_pipelines_on_it(cluster: EmbeddedCluster) -> None:
    mine, foreign, _ = a_key_of_each(cluster)
    async with cluster_pool(cluster) as pool, own(pool) as conn:
        for key in (mine, foreign):
            assert await conn.pipeline().set(key, 1).get(key).execute() == [True, b"1"]
            assert ports(conn) == cluster.node_for(key).port
            plain = conn.pipeline(transaction=False)
            assert await plain.get(key).get(key).execute() == [b"1", b"1"]
        for atomic in (True, False):
            with pytest.raises(CrossSlot, match="a pipeline on one connection"):
                await conn.pipeline(transaction=atomic).get(mine).get(foreign).execute()
        same_node = keys_of(cluster, cluster.primaries[0])
        two = next(same_node), next(same_node)
        both = await conn.pipeline(transaction=False).get(two[0]).get(two[1]).execute()
        assert len(both) == 2
        assert await conn.pipeline().ping().execute() == [True]


async def test_watching_pipelines_on_it(cluster: EmbeddedCluster) -> None:
    mine, foreign, _ = a_key_of_each(cluster)
    async with cluster_pool(cluster) as pool, own(pool) as conn:
        async with conn.pipeline() as pipe:
            await pipe.watch(mine)
            assert await pipe.get(mine) is None
            with pytest.raises(CrossSlot):
                await pipe.get(foreign)
            with pytest.raises(CrossSlot):
                await conn.get(foreign)
            pipe.multi()
            pipe.set(mine, 1)
            assert await pipe.execute() == [True]
            assert await conn.get(foreign) is None
            await pipe.watch(foreign)
            await pool.client.set(foreign, "theirs")
            pipe.multi()
            pipe.set(foreign, "mine")
            with pytest.raises(WatchError):
                await pipe.execute()
        async with conn.pipeline() as pipe:
            await pipe.watch(mine)  # and left
        assert await conn.get(foreign) == b"theirs"


# -- sharing, and giving back --------------------------------------------------------------------


async def test_tasks_on_one_connection_do_not_lose_each_other(cluster: EmbeddedCluster) -> None:
    some = [keys_of(cluster, node) for node in cluster.primaries]
    keys = [next(keys) for _ in range(8) for keys in some]
    async with cluster_pool(cluster) as pool, own(pool) as conn:
        assert all(await asyncio.gather(*(conn.set(key, key) for key in keys)))
        assert await asyncio.gather(*(conn.get(key) for key in keys)) == [k.encode() for k in keys]
        lists = await asyncio.gather(*(conn.rpush(f"l{{{keys[0]}}}", n) for n in range(50)))
        assert lists == list(range(1, 51))
        assert lent(pool) == 1


async def test_a_view_roams_with_it(cluster: EmbeddedCluster) -> None:
    mine, foreign, _ = a_key_of_each(cluster)
    async with cluster_pool(cluster) as pool, own(pool, key=mine) as conn:
        view = conn.with_timeout(2)
        assert await view.set(foreign, 1)
        assert ports(conn) == cluster.node_for(foreign).port == ports(view)
        assert await conn.get(mine) is None
        assert (await view.blpop(["{x}", "y{x}"], 0.01)) is None
        await view.execute("WATCH", foreign)
        with pytest.raises(CrossSlot):
            await conn.get(mine)
        assert await conn.execute("UNWATCH")
    with pytest.raises(LeaseReleased):
        await view.get(mine)


async def test_what_is_returned_is_returned(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster, pool_max_size=2) as pool:
        for key in a_key_of_each(cluster):
            conn = await own(pool, key=key)
            conn.release()
            conn.release()
            with pytest.raises(LeaseReleased):
                await conn.get(key)
            with pytest.raises(LeaseReleased):
                await conn.ping()
        first, second, _ = a_key_of_each(cluster)
        held = [await own(pool, key=second) for _ in range(2)]
        with pytest.raises(PoolTimeout):
            await own(pool, 0, key=second)
        # There is no other of them, and the one in hand is not lost by asking for it.
        async with own(pool, key=first) as conn:
            conn._timeout = 0.05
            with pytest.raises(PoolTimeout):
                await conn.get(second)
            assert await conn.get(first) is None
        for conn in held:
            await conn.aclose()
        assert lent(pool) == 0


# -- slots that move -------------------------------------------------------------------------------


async def test_it_follows_a_slot_that_has_moved(cluster: EmbeddedCluster) -> None:
    key = "{moves}k"
    slot, home = cluster.slot_of(key), cluster.node_for(key)
    away = other_primary(cluster, key)
    async with cluster_pool(cluster) as pool, own(pool, key=key) as conn:
        for target in (away, home):
            assert await conn.set(key, target.port)
            await cluster.move_slot(slot, target)
            assert int(await conn.get(key)) == target.port
            assert ports(conn) == target.port
        for target in (away, home):
            await cluster.move_slot(slot, target)
            assert await conn.pipeline().incr(key).get(key).execute()
            assert ports(conn) == target.port
        for target in (away, home):
            await cluster.move_slot(slot, target)
            async with conn.pipeline() as pipe:
                await pipe.watch(key)
                assert ports(conn) == target.port
                pipe.multi()
                pipe.incr(key)
                assert len(await pipe.execute()) == 1
        for target in (away, home):
            await cluster.move_slot(slot, target)
            await conn.execute("WATCH", key)
            assert ports(conn) == target.port
            await conn.execute("UNWATCH")


async def test_state_is_not_carried_along(cluster: EmbeddedCluster) -> None:
    key = "{moves}k"
    home, away = cluster.node_for(key), other_primary(cluster, key)
    async with cluster_pool(cluster) as pool, own(pool, key=key) as conn:
        await conn.execute("WATCH", key)
        await cluster.move_slot(cluster.slot_of(key), away)
        with pytest.raises(redis.ResponseError):
            await conn.get(key)
        await conn.execute("UNWATCH")
        assert await conn.get(key) is None  # the map has learnt
        assert ports(conn) == away.port
    await cluster.move_slot(cluster.slot_of(key), home)


async def test_a_key_that_has_gone_ahead_is_asked_for_there(cluster: EmbeddedCluster) -> None:
    gone, stays = "{half}gone", "{half}stays"
    home, away = cluster.node_for(gone), other_primary(cluster, gone)
    async with cluster_pool(cluster) as pool, own(pool, key=gone) as conn:
        await conn.mset({gone: 1, stays: 1})
        async with cluster.migrating(cluster.slot_of(gone), away) as migration:
            await migration.move_keys(gone)
            for _ in range(3):
                assert await conn.incrby(gone, 1)
                assert await conn.incrby(stays, 1)
            assert ports(conn) == home.port
            with pytest.raises(redis.ResponseError):
                await conn.execute("WATCH", gone)
        assert await conn.mget([gone, stays]) == [b"4", b"4"]
        assert ports(conn) == away.port
    await cluster.move_slot(cluster.slot_of(gone), home)


async def test_locks_and_scripts_on_it(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool, own(pool) as conn:
        for key in a_key_of_each(cluster):
            async with conn.lock(f"lock:{{{key}}}", timeout=5) as lock:
                assert await lock.owned()
                assert not await pool.client.lock(f"lock:{{{key}}}").acquire(blocking=False)
            script = conn.register_script("return redis.call('INCR', KEYS[1])")
            assert await script(keys=[key]) == 1
            assert told(cluster.node_for(key), "GET", key) == "1"
