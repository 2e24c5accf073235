"""Reading from the replicas of a cluster: who is asked, and what becomes of reads when one of them
is slow, behind, silent, dead or promoted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, cast

import pytest

from redisutils import RedisPool, create_redis_pool
from redisutils.errors import CommandTimeout, ConfigError, ConnectFailed, Outcome
from redisutils.metrics.reading import ReadMetrics
from redisutils.testing import EmbeddedCluster, EmbeddedServer, find_servers
from redisutils.topology.cluster.cluster import Cluster
from redisutils.topology.plan import ReadFrom

from .clusters import cluster_pool, told
from .ours import until
from .reads import calls, get_many, write_off_lanes

MAIN, *_ = find_servers()


@pytest.fixture(scope="module")
def cluster() -> Iterator[EmbeddedCluster]:
    """One primary with two replicas; tests leave it whole."""
    with EmbeddedCluster(1, 2, MAIN) as cluster:
        yield cluster


@pytest.fixture
async def whole(cluster: EmbeddedCluster) -> AsyncIterator[EmbeddedCluster]:
    """The cluster, with ``k`` in it, and put right again after the test."""
    told(cluster.primaries[0], "FLUSHALL")
    told(cluster.primaries[0], "SET", "k", "v")
    await cluster.wait_in_sync()
    for node in cluster.nodes:
        told(node, "CONFIG", "RESETSTAT")
    yield cluster
    for node in cluster.nodes:
        await node.resume()


def counted(cluster: EmbeddedCluster, command: str = "get") -> list[int]:
    """How many of this command the primary and its replicas have executed."""
    (primary,) = cluster.primaries
    return [calls(node, command) for node in (primary, *cluster.replicas_of(primary))]


def reads(pool: RedisPool) -> ReadMetrics:
    return pool.server.metrics.reads.snapshot()


def in_the_cluster(pool: RedisPool) -> Cluster:
    server = pool.server
    assert isinstance(server, Cluster)
    return server


@asynccontextmanager
async def reading(cluster: EmbeddedCluster, source: str, **settings: Any) -> AsyncIterator[Any]:
    """A pool that knows its replicas."""
    async with cluster_pool(cluster, read_from=source, **settings) as pool:
        await pool.client.get("k")
        await until(lambda: ready(pool), "that all replicas are known")
        for node in cluster.nodes:
            told(node, "CONFIG", "RESETSTAT")
        yield pool


def ready(pool: RedisPool, *away: EmbeddedServer) -> bool:
    """Whether all replicas may be read from but these."""
    server = in_the_cluster(pool)
    left_out = {node.port for node in away}
    bounded = server.copies is not None and server.copies.reading.max_lag < 1e9
    replicas = [replica for primary in server.primaries for replica in primary.replicas]
    return bool(replicas) and all(
        replica.figures.proven is (replica.address.port not in left_out)
        and (not bounded or replica.figures.fresh_at > 0 or replica.address.port in left_out)
        for replica in replicas
    )


# -- who is asked ----------------------------------------------------------------------------


async def test_reads_are_spread_over_the_replicas_and_writes_are_not(
    whole: EmbeddedCluster,
) -> None:
    async with reading(whole, "replica") as pool:
        await get_many(pool)
        assert await pool.client.set("k", "v")
        assert await pool.client.exists("k", "k") == 2
        of_primary, *of_replicas = counted(whole)
        assert of_primary == 0
        assert sum(of_replicas) == 40
        assert min(of_replicas) >= 10
        assert counted(whole, "set") == [1, 1, 1]  # the others hear of it
        assert counted(whole, "exists")[0] == 0
        assert not pool.metrics().retries


async def test_the_primary_is_read_from_unless_somebody_says_otherwise(
    whole: EmbeddedCluster,
) -> None:
    async with cluster_pool(whole) as pool:
        await get_many(pool)
        assert counted(whole) == [40, 0, 0]
        assert in_the_cluster(pool).copies is None
        assert reads(pool) == ReadMetrics()


async def test_nearest_shares_the_load_of_those_that_are_as_near(whole: EmbeddedCluster) -> None:
    async with reading(whole, "nearest") as pool:
        for _ in range(10):
            await get_many(pool, 12)
        assert min(counted(whole)) >= 1
        assert sum(counted(whole)) == 120


async def test_nearest_leaves_out_who_is_far(whole: EmbeddedCluster) -> None:
    (primary,) = whole.primaries
    near, far = whole.replicas_of(primary)
    async with whole.proxied() as network:
        for node in (primary, far):
            network.proxies[node].to_client.latency = 0.05
        async with cluster_pool(whole, network, read_from="nearest") as pool:
            await pool.client.get("k")
            server = in_the_cluster(pool)
            await until(
                lambda: all(
                    node.figures.round_trip is not None
                    for each in server.primaries
                    for node in (each, *each.replicas)
                ),
                "that all are measured",
            )
            told(near, "CONFIG", "RESETSTAT")
            await get_many(pool)
            assert calls(near, "get") == 40


async def test_servers_of_the_own_zone_are_preferred(whole: EmbeddedCluster) -> None:
    (primary,) = whole.primaries
    here, there = whole.replicas_of(primary)
    try:
        for node, zone in ((here, "eu-1a"), (there, "eu-1b")):
            told(node, "CONFIG", "SET", "availability-zone", zone)
    except Exception as error:  # noqa: BLE001  # whatever an older server says
        pytest.skip(f"this server knows no zones: {error}")
    async with reading(whole, "prefer-replica", read_zone="eu-1b") as pool:
        await get_many(pool)
        assert calls(there, "get") == 40
        await there.pause()
        await until(lambda: ready(pool, there), "that the pause is noticed")
        await get_many(pool)
        assert calls(here, "get") == 40
        await there.resume()


async def test_a_lane_of_its_own_reads_elsewhere(whole: EmbeddedCluster) -> None:
    async with cluster_pool(whole) as pool:
        reports = pool.lane("reports", read_from="replica")
        assert await reports.get("k") == b"v"
        await until(lambda: ready(pool))
        assert pool.lane("reports", read_from="replica") is reports
        assert pool.lane("reports") is not reports
        for node in whole.nodes:
            told(node, "CONFIG", "RESETSTAT")
        for _ in range(10):
            await reports.get("k")
            await pool.client.get("k")
            await pool.lane("reports").get("k")
        of_primary, *of_replicas = counted(whole)
        assert (of_primary, sum(of_replicas)) == (20, 10)
        with pytest.raises(ConfigError, match="read_from='nowhere' must be one of primary"):
            _ = pool.lane("x", read_from=cast("ReadFrom", "nowhere"))


async def test_the_bounds_are_those_of_lanes_that_read_from_replicas(
    whole: EmbeddedCluster,
) -> None:
    bounds: dict[str, Any] = {"read_max_lag_seconds": 2.0, "read_own_writes_seconds": 30.0}
    async with cluster_pool(whole, **bounds) as pool:
        prices = pool.lane("prices", read_from="replica")
        assert await prices.get("k") == b"v"
        await until(lambda: ready(pool))
        for node in whole.nodes:
            told(node, "CONFIG", "RESETSTAT")
        for _ in range(5):
            await prices.get("k")
            await pool.client.get("k")
        of_primary, *of_replicas = counted(whole)
        assert (of_primary, sum(of_replicas)) == (5, 5)
        copies = in_the_cluster(pool).copies
        assert copies is not None
        assert copies.reading.max_lag == 2.0
        await pool.client.set("k", "w")  # by a lane that reads from the primary
        assert await prices.get("k") == b"w"
        of_primary, *of_replicas = counted(whole)
        assert (of_primary, sum(of_replicas)) == (6, 5)


async def test_a_replica_that_is_down_is_told(whole: EmbeddedCluster) -> None:
    async with reading(whole, "replica") as pool:
        server = in_the_cluster(pool)
        (primary,) = server.primaries
        down, primary.replicas = primary.replicas, []  # as adopt does with those that fail
        lane = pool.server.lane_for("default", None)
        lane._refused = primary
        assert f"{down[0].address}" in (why := lane._why_unread())
        assert "are down, as the other nodes say" in why


async def test_a_connection_that_was_made_before_anybody_read_from_it_learns_to(
    whole: EmbeddedCluster,
) -> None:
    (primary,) = whole.primaries
    port = whole.replicas_of(primary)[0].port
    async with cluster_pool(whole) as pool:
        await pool.client.get("k")
        server = in_the_cluster(pool)
        await until(lambda: server.primaries)
        node = next(node for node in server.nodes.values() if node.address.port == port)
        assert node.server.options.readonly is False  # its pool is made
        reports = pool.lane("reports", read_from="replica")
        for _ in range(20):
            assert await reports.get("k") == b"v"
        assert min(counted(whole)[1:]) >= 5


async def test_a_user_who_may_not_read_from_replicas_is_told_so(whole: EmbeddedCluster) -> None:
    for node in whole.nodes:
        told(node, "ACL", "SETUSER", "reader", "on", ">pw", "+@all", "-readonly", "~*", "&*")
    user: dict[str, Any] = {"username": "reader", "password": "pw"}
    async with cluster_pool(whole, read_from="nearest", **user) as pool:
        with pytest.raises(ConnectFailed, match=r"'reader' may not .* change REDIS_READ_FROM"):
            await pool.client.get("k")
    async with cluster_pool(whole, **user) as pool:
        assert await pool.client.get("k") == b"v"
    for node in whole.nodes:
        told(node, "ACL", "DELUSER", "reader")


async def test_one_server_that_is_no_cluster_says_so_whoever_is_read_from(
    clean_server: EmbeddedServer,
) -> None:
    place: dict[str, Any] = {
        "nodes": [(clean_server.host, clean_server.port)],
        "password": clean_server.password,
    }
    async with create_redis_pool(mode="cluster", read_from="nearest", **place) as pool:
        with pytest.raises(ConnectFailed, match="REDIS_MODE=standalone"):
            await pool.client.get("k")


# -- what is read from them --------------------------------------------------------------------


async def test_pipelines_that_only_read_go_to_a_replica_and_others_do_not(
    whole: EmbeddedCluster,
) -> None:
    async with reading(whole, "replica") as pool:
        pipe: Any = pool.client.pipeline(transaction=False)
        assert await pipe.get("k").strlen("k").mget("k", "none{k}").execute() == [
            b"v",
            1,
            [b"v", None],
        ]
        assert counted(whole)[0] == counted(whole, "mget")[0] == 0
        pipe = pool.client.pipeline(transaction=False)
        assert await pipe.set("k", "w").get("k").set("k", "v").execute() == [True, b"w", True]
        assert counted(whole)[0] == 1
        pipe = pool.client.pipeline(transaction=True)
        assert await pipe.get("k").get("k").execute() == [b"v", b"v"]
        assert counted(whole)[0] == 3


async def test_what_is_about_one_server_is_asked_of_the_primary(whole: EmbeddedCluster) -> None:
    async with reading(whole, "replica") as pool:
        client = pool.client
        fields: dict[Any, Any] = {f"f{number}": "v" for number in range(3000)}
        await client.hset("h", mapping=fields)
        await whole.wait_in_sync()
        names = {name.encode() for name in fields}
        assert {name async for name, _ in client.hscan_iter("h", count=100)} == names
        assert await client.touch("h") == 1
        pipe: Any = client.pipeline(transaction=False)
        cursor, found = (await pipe.hscan("h", count=100).execute())[0]
        assert cursor
        assert found
        for command in "hscan", "touch":
            of_primary, *of_replicas = counted(whole, command)
            assert of_primary > 0
            assert of_replicas == [0, 0]
        assert await client.hlen("h") == 3000
        assert counted(whole, "hlen")[0] == 0


async def test_scripts_that_only_read_run_on_replicas_and_others_on_the_primary(
    whole: EmbeddedCluster,
) -> None:
    async with reading(whole, "replica") as pool:
        client = pool.client
        script = "return redis.call('GET', KEYS[1])"
        assert await client.eval_ro(script, 1, "k") == b"v"
        assert counted(whole)[0] == 0
        assert await client.eval(script, 1, "k") == b"v"
        assert counted(whole)[0] == 1


async def test_a_script_that_a_replica_does_not_have_is_run_by_the_primary(
    whole: EmbeddedCluster,
) -> None:
    (primary,) = whole.primaries
    digest = told(primary, "SCRIPT", "LOAD", "return redis.call('GET', KEYS[1]) .. '!'")
    async with reading(whole, "prefer-replica") as pool:
        assert await pool.client.evalsha_ro(digest, 1, "k") == b"v!"
        assert counted(whole)[0] == 1


# -- how far behind ----------------------------------------------------------------------------


@asynccontextmanager
async def cut_off(*replicas: EmbeddedServer) -> AsyncIterator[None]:
    """Replicas that hear nothing of their primary any more, and go on answering."""
    passwords = [told(replica, "CONFIG", "GET", "masterauth")["masterauth"] for replica in replicas]
    for replica in replicas:
        told(replica, "CONFIG", "SET", "masterauth", "wrong")
        told(replica, "CLIENT", "KILL", "TYPE", "master")
    try:
        yield
    finally:
        for replica, password in zip(replicas, passwords, strict=True):
            told(replica, "CONFIG", "SET", "masterauth", password)


async def test_a_replica_that_falls_behind_is_not_read_from_until_it_has_caught_up(
    whole: EmbeddedCluster,
) -> None:
    (primary,) = whole.primaries
    behind, keeping_up = whole.replicas_of(primary)
    async with reading(whole, "prefer-replica", read_max_lag_seconds=0.5) as pool:
        await get_many(pool)
        assert calls(behind, "get") > 0
        async with cut_off(behind):
            cut = monotonic()
            told(primary, "SET", "k", "w")
            # The bound holds: what was written so long ago is seen by all.
            await until(lambda: monotonic() >= cut + 0.5)
            answers = [await pool.client.get("k") for _ in range(50)]
            assert answers == [b"w"] * 50
            assert calls(keeping_up, "get") >= 50
            assert reads(pool).lagging >= 50
        await whole.wait_in_sync()

        before = calls(behind, "get")
        async with asyncio.timeout(10):
            while calls(behind, "get") == before:
                await asyncio.gather(*(pool.client.get("k") for _ in range(10)))


async def test_without_a_bound_a_replica_is_read_from_however_old_it_is(
    whole: EmbeddedCluster,
) -> None:
    (primary,) = whole.primaries
    async with (
        reading(whole, "prefer-replica") as pool,
        cut_off(*whole.replicas_of(primary)),
    ):
        told(primary, "SET", "k", "w")
        await get_many(pool)
        assert counted(whole)[0] == 0
    await whole.wait_in_sync()


async def read_until_it_fails(pool: RedisPool) -> None:
    while True:
        await pool.client.get("k")


async def test_reads_that_only_replicas_may_answer_wait_for_one_and_say_why(
    whole: EmbeddedCluster,
) -> None:
    (primary,) = whole.primaries
    replicas = whole.replicas_of(primary)
    settings = {"read_max_lag_seconds": 0.5, "command_timeout": 1.0}
    async with reading(whole, "replica", **settings) as pool:
        async with cut_off(*replicas):
            told(primary, "SET", "k", "w")
            with pytest.raises(CommandTimeout) as caught:
                await read_until_it_fails(pool)
            assert caught.value.outcome is Outcome.NOT_SENT
            for words in (
                f"no replica of {primary.host}:{primary.port} may be read from",
                "it is behind by more than REDIS_READ_MAX_LAG_SECONDS=0.5",
                "REDIS_READ_FROM=prefer-replica",
            ):
                assert words in str(caught.value)
            waiting = asyncio.ensure_future(pool.client.get("k"))
            await asyncio.sleep(0)
        assert counted(whole)[0] == 0
        try:
            assert await waiting == b"w"
        except CommandTimeout:  # the replicas took more than a second to come back
            await until(lambda: ready(pool))
            assert await pool.client.get("k") == b"w"


# -- own writes --------------------------------------------------------------------------------


async def test_own_writes_are_read_at_the_primary_for_a_while(whole: EmbeddedCluster) -> None:
    (primary,) = whole.primaries
    settings = {"read_own_writes_seconds": 0.3}
    async with (
        reading(whole, "prefer-replica", **settings) as pool,
        cut_off(*whole.replicas_of(primary)),
    ):
        await pool.client.set("k", "mine")
        assert await pool.client.get("k") == b"mine"
        assert await pool.lane("other").get("k") == b"mine"
        assert await pool.client.mget("k", "other{k}") == [b"mine", None]
        pipe = pool.client.pipeline(transaction=False)
        assert await pipe.get("k").get("k").execute() == [b"mine"] * 2
        assert await pool.client.get("else") is None
        of_primary, *of_replicas = counted(whole)
        assert (of_primary, sum(of_replicas)) == (4, 1)  # the other slot was not written

        pipe = pool.client.pipeline(transaction=True)
        await pipe.set("k", "ours").execute()
        assert await pool.client.get("k") == b"ours"

        async with asyncio.timeout(10):
            while await pool.client.get("k") == b"ours":
                pass
        assert await pool.client.get("k") == b"v"  # the while is over
    await whole.wait_in_sync()


async def test_own_writes_are_those_of_own_connections_too(whole: EmbeddedCluster) -> None:
    async with reading(whole, "replica", read_own_writes_seconds=60) as pool:
        client = pool.client
        async with pool.get(key="{1}w") as own:
            await own.set("{1}w", "mine")
            answer = await own.get("{2}w")  # to read notes nothing
            assert answer is None
        await write_off_lanes(client)
        one: Any = client.client()
        await one.set("{5}w", "mine")
        await one.aclose()  # its lane is gone, and not what it has written
        (primary,) = whole.primaries
        named = f"{primary.host}:{primary.port}"
        await client.execute_command("SET", "{6}w", "mine", target_nodes=named)
        await client.execute_command("GET", "{2}w", target_nodes=named)
        for node in whole.nodes:
            told(node, "CONFIG", "RESETSTAT")
        for number in 1, 3, 5, 6:
            assert await client.get(f"{{{number}}}w") == b"mine"
        assert await client.llen("{4}w") == 1
        assert await client.get("{2}w") is None
        of_primary, *of_replicas = counted(whole)
        assert (of_primary, sum(of_replicas)) == (4, 1)
        assert counted(whole, "llen") == [1, 0, 0]


async def test_what_is_read_at_the_primary_alone_is_no_write(whole: EmbeddedCluster) -> None:
    async with reading(whole, "replica", read_own_writes_seconds=60) as pool:
        await pool.client.touch("k")
        await pool.client.hscan("none")
        assert await pool.client.object("idletime", "k") == 0
        assert await pool.client.get("k") == b"v"
        assert counted(whole)[0] == 0


async def test_what_is_written_on_a_connection_of_its_own_is_seen(
    whole: EmbeddedCluster,
) -> None:
    (primary,) = whole.primaries
    told(primary, "SET", "other", "v")
    await whole.wait_in_sync()
    async with (
        reading(whole, "replica", read_own_writes_seconds=30) as pool,
        cut_off(*whole.replicas_of(primary)),
    ):
        async with pool.client.pipeline(transaction=True) as pipe:
            await pipe.watch("k")
            pipe.multi()
            await pipe.set("k", "watched").execute()
        assert await pool.client.get("k") == b"watched"
        await pool.client.rpush("list", "a", "b")
        assert await pool.client.blpop("list", 1) == (b"list", b"a")
        assert await pool.client.lrange("list", 0, -1) == [b"b"]
        assert await pool.client.get("other") == b"v"
        await pool.client.flushall()
        assert await pool.client.get("other") is None
    await whole.wait_in_sync()


async def test_reads_behind_a_write_in_one_turn_are_own_writes_too(whole: EmbeddedCluster) -> None:
    async with reading(whole, "replica", read_own_writes_seconds=5) as pool:
        results = await asyncio.gather(
            *(
                each
                for number in range(50)
                for each in (pool.client.set("k", number), pool.client.get("k"))
            )
        )
        assert results[1::2] == [str(number).encode() for number in range(50)]
        await pool.client.flushall()
        assert await pool.client.get("k") is None


# -- when one of them is away ------------------------------------------------------------------


@pytest.mark.parametrize("source", ["replica", "prefer-replica", "nearest"])
async def test_a_silent_replica_costs_no_read_its_answer(
    whole: EmbeddedCluster, source: str
) -> None:
    (primary,) = whole.primaries
    silent, _ = whole.replicas_of(primary)
    async with reading(whole, source) as pool:
        await silent.pause()
        for _ in range(5):
            await get_many(pool, 20)
        await until(lambda: ready(pool, silent))
        began = monotonic()
        await get_many(pool)
        assert monotonic() - began < 0.4  # nobody asks it any more
        assert reads(pool).moved_on > 0
        await silent.resume()
        await until(lambda: ready(pool))
        before = calls(silent, "get")
        for _ in range(20):
            await get_many(pool, 10)
        assert calls(silent, "get") > before


async def test_a_replica_that_dies_costs_no_read_its_answer(whole: EmbeddedCluster) -> None:
    (primary,) = whole.primaries
    victim, _ = whole.replicas_of(primary)
    async with reading(whole, "replica") as pool:
        stop = asyncio.Event()

        async def read() -> int:
            count = 0
            while not stop.is_set():
                assert await pool.client.get("k") == b"v"
                count += 1
            return count

        readers = [asyncio.ensure_future(read()) for _ in range(10)]
        await victim.kill()
        await until(lambda: ready(pool, victim))
        stop.set()
        assert sum(await asyncio.gather(*readers)) > 0
        await victim.start()
        await whole.wait_until_ok()
        await until(lambda: ready(pool), patience=20.0)
        await get_many(pool)


async def test_reads_go_on_while_the_primary_is_silent(whole: EmbeddedCluster) -> None:
    (primary,) = whole.primaries
    async with reading(whole, "nearest") as pool:
        await primary.pause()
        for _ in range(5):
            await get_many(pool, 30)
        await primary.resume()


async def test_a_promoted_replica_is_written_to_and_the_old_primary_read_from(
    whole: EmbeddedCluster,
) -> None:
    (old,) = whole.primaries
    new, _ = whole.replicas_of(old)
    async with reading(whole, "replica") as pool:
        await whole.failover(new)
        assert whole.primaries == [new]
        assert await pool.client.set("k", "v")
        await whole.wait_in_sync()
        await until(lambda: in_the_cluster(pool).primaries[0].address.port == new.port)
        before = calls(old, "get")
        async with asyncio.timeout(10):
            while calls(old, "get") == before:
                await get_many(pool, 10)
        before = calls(new, "get")
        await get_many(pool)
        assert calls(new, "get") == before


# -- hedging -----------------------------------------------------------------------------------


async def test_hedging_cuts_the_tail_of_a_slow_replica(whole: EmbeddedCluster) -> None:
    (primary,) = whole.primaries
    slow, _ = whole.replicas_of(primary)
    async with whole.proxied() as network:
        late = {}
        for hedge in (0.0, 0.5):
            settings = {"read_from": "replica", "read_hedge": hedge}
            async with cluster_pool(whole, network, **settings) as pool:
                await pool.client.get("k")
                await until(lambda: ready(pool))
                for _ in range(200):
                    await pool.client.get("k")
                network.proxies[slow].to_client.latency = 0.1
                took = [await timed_get(pool)]
                end = monotonic() + 1.2
                while monotonic() < end:
                    took.append(await timed_get(pool))
                network.proxies[slow].restore()
                late[hedge] = sum(seconds > 0.09 for seconds in took)
                counts = reads(pool)
                assert (counts.hedged > 0) is (hedge > 0)
                assert counts.hedged <= 0.5 * (len(took) + 201)
                assert counts.hedges_won <= counts.hedged
        assert late[0.5] < late[0.0] / 2, late


async def timed_get(pool: RedisPool) -> float:
    began = monotonic()
    assert await pool.client.get("k") == b"v"
    return monotonic() - began
